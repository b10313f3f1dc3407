#include "factorization/factor_chain.h"

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>

#include "core/error.h"
#include "factorization/lookup.h"

namespace deeplora {
namespace {

// Mistakes of the program, not of the user: every mismatch in one message.
void validate(const std::vector<Factor>& factors) {
  Errors errors;
  std::set<std::string> names;
  for (size_t i = 0; i < factors.size(); ++i) {
    const auto& [name, value, lr_scale, orthonormal] = factors[i];
    if (!names.insert(name).second) errors.add("two factors are named '", name, "'");
    if (!(lr_scale >= 0) || !std::isfinite(lr_scale)) errors.add("'", name, "' has learning-rate scale ", lr_scale);
    if (!value.defined() || value.dim() != 2 || !at::isFloatingType(value.scalar_type())) {
      errors.add("'", name, "' is not a floating-point matrix");
      continue;
    }
    if (i == 0 || !factors[i - 1].value.defined() || factors[i - 1].value.dim() != 2) continue;
    const auto& before = factors[i - 1];
    if (before.value.size(0) != value.size(1))
      errors.add("'", name, "' ", value.sizes(), " does not fit '", before.name, "' ", before.value.sizes());
    if (before.value.scalar_type() != value.scalar_type() || before.value.device() != value.device())
      errors.add("'", name, "' and '", before.name, "' differ in dtype or device");
  }
  if (factors.empty()) errors.add("no factors");
  if (!errors.empty()) {
    try {
      errors.throw_if_any("factor chain");
    } catch (const Error& error) {
      throw std::invalid_argument(error.what());
    }
  }
}

// a_k ... a_1 of matrices given from the right to the left factor, multiplied in the cheapest order.
torch::Tensor multiply(const std::vector<torch::Tensor>& right_to_left) {
  if (right_to_left.size() == 1) return right_to_left.front();
  return at::linalg_multi_dot(std::vector<torch::Tensor>(right_to_left.rbegin(), right_to_left.rend()));
}

}  // namespace

FactorChainImpl::FactorChainImpl(std::vector<Factor> input_to_output, double scale) : scale_(scale) {
  validate(input_to_output);
  if (!std::isfinite(scale)) throw std::invalid_argument(cat("factor chain: scale ", scale));
  for (auto& factor : input_to_output) {
    // A copy of its own: training must not write through to the caller's tensor.
    torch::Tensor value = factor.value.detach().clone(at::MemoryFormat::Contiguous);
    factor.value = register_parameter(factor.name, value, /*requires_grad=*/factor.lr_scale != 0);
  }
  factors_ = std::move(input_to_output);
}

torch::Tensor FactorChainImpl::forward(const torch::Tensor& x) {
  const bool autocast = at::autocast::is_autocast_enabled(x.device().type());
  torch::Tensor h = autocast ? x : x.to(factors_.front().value.scalar_type());
  bool first = true;
  for (const auto& factor : factors_) {
    h = at::linear(h, factor.value);
    if (first && scale_ != 1) h = h * scale_;  // on the inner width, where it is cheapest
    first = false;
  }
  return h.to(x.scalar_type());
}

torch::Tensor FactorChainImpl::rows(const torch::Tensor& ids) {
  torch::Tensor h = look_up(factors_.back().value, ids);
  if (scale_ != 1) h = h * scale_;
  for (size_t i = factors_.size() - 1; i-- > 0;) h = at::matmul(h, factors_[i].value);
  return h;
}

torch::Tensor FactorChainImpl::product() const {
  std::vector<torch::Tensor> values;
  for (const auto& factor : factors_) values.push_back(factor.value);
  if (scale_ != 1) values.front() = values.front() * scale_;
  return multiply(values);
}

std::pair<torch::Tensor, torch::Tensor> FactorChainImpl::collapse() const {
  const torch::Tensor a = factors_.front().value;
  if (factors_.size() == 1) return {at::eye(a.size(0), a.options().requires_grad(false)), a};
  std::vector<torch::Tensor> rest;
  for (size_t i = 1; i < factors_.size(); ++i) rest.push_back(factors_[i].value);
  return {multiply(rest), a};
}

std::vector<ParamGroup> FactorChainImpl::param_groups() const {
  std::vector<ParamGroup> groups;
  for (const auto& factor : factors_) {
    if (factor.lr_scale == 0) continue;
    auto group = std::find_if(groups.begin(), groups.end(), [&](const ParamGroup& g) {
      return g.lr_scale == factor.lr_scale && g.orthonormal == factor.orthonormal;
    });
    if (group == groups.end())
      group = groups.insert(groups.end(), {{}, factor.lr_scale, !factor.orthonormal, factor.orthonormal});
    group->params.push_back({factor.name, factor.value});
  }
  return groups;
}

int64_t FactorChainImpl::width() const {
  int64_t width = factors_.size() == 1 ? std::min(in(), out()) : factors_.front().value.size(0);
  for (size_t i = 0; i + 1 < factors_.size(); ++i) width = std::min(width, factors_[i].value.size(0));
  return width;
}

}  // namespace deeplora
