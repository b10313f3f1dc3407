#include "models/autocast_copy.h"

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

namespace deeplora {
namespace {

at::ScalarType autocast_type(const torch::Tensor& weight) {
  return at::autocast::get_autocast_dtype(weight.device().type());
}

bool is_rounded(const torch::Tensor& weight) {
  return !weight.requires_grad() && (weight.scalar_type() == torch::kFloat32 || is_half(weight)) &&
         at::autocast::is_autocast_enabled(weight.device().type()) && weight.scalar_type() != autocast_type(weight);
}

}  // namespace

AutocastCopy::Origin AutocastCopy::origin_of(const std::vector<torch::Tensor>& weights) {
  Origin out;
  for (const auto& weight : weights) out.emplace_back(weight.const_data_ptr(), weight._version());
  return out;
}

WeightPanels AutocastCopy::panels_of(const std::vector<torch::Tensor>& weights, const Leave& leave) {
  const torch::Tensor& first = weights.front();
  int64_t rows = 0;
  for (const auto& weight : weights) {
    if (!is_rounded(weight) || is_half(weight) || weight.dim() != 2 || weight.size(1) != first.size(1)) return {};
    rows += weight.size(0);
  }
  if (autocast_type(first) != at::kBFloat16 || !WeightPanels::fit(rows, first.size(1), first.device())) return {};
  if (!copy_.panels.defined() || origin_ != origin_of(weights)) {
    const torch::NoGradGuard no_grad;
    copy_ = {first, WeightPanels::of(weights.size() == 1 ? first : at::cat(weights))};
    if (leave) leave();
    origin_ = origin_of(weights);
  }
  return copy_.panels;
}

FrozenMatrix AutocastCopy::of(const torch::Tensor& weight, const Leave& leave) {
  if (!is_rounded(weight)) return weight;
  if (const WeightPanels panels = panels_of({weight}, leave); panels.defined()) return {weight, panels};
  if (copy_.parts.empty() || origin_ != origin_of({weight}) || copy_.parts.front().device() != weight.device()) {
    const torch::NoGradGuard no_grad;
    copy_ = weight.to(autocast_type(weight));
    if (leave && is_half(weight)) leave();
    origin_ = origin_of({weight});
  }
  return copy_;
}

}  // namespace deeplora
