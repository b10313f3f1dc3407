#include "completion/tracking.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "factorization/diagnostics.h"

namespace deeplora {
namespace {

bool is_full_width(const FactorChainImpl& chain) {
  const auto& factors = chain.factors();
  return std::all_of(factors.begin(), factors.end(), [&](const Factor& f) {
    return std::min(f.value.size(0), f.value.size(1)) == std::min(chain.out(), chain.in());
  });
}

nlohmann::ordered_json numbers(const torch::Tensor& values, int64_t most) {
  const torch::Tensor shown = values.narrow(0, 0, std::min(most, values.numel())).to(torch::kFloat64).contiguous();
  return std::vector<double>(shown.const_data_ptr<double>(), shown.const_data_ptr<double>() + shown.numel());
}

}  // namespace

SubspaceTracker::SubspaceTracker(const FactorChainImpl& chain, const SingularPairs& pairs) : shown_(chain.width()) {
  torch::NoGradGuard no_grad;
  if (!pairs.v.defined()) return;
  shown_ = std::min(shown_, 2 * pairs.v.size(1) + 2);
  if (!is_full_width(chain) || 2 * pairs.v.size(1) >= std::min(chain.out(), chain.in())) return;
  torch::Tensor pulled = pairs.u.to(torch::kFloat64);  // direction of P^T U_G
  for (auto factor = chain.factors().rbegin(); factor != chain.factors().rend(); ++factor)
    pulled = orthonormal_basis(at::matmul(factor->value.detach().to(torch::kFloat64).t(), pulled));
  torch::Tensor inside = orthonormal_basis(at::cat({pairs.v.to(torch::kFloat64), pulled}, 1));
  for (const auto& factor : chain.factors()) {
    const torch::Tensor start = factor.value.detach().to(torch::kFloat64).clone();
    const torch::Tensor whole = std::get<0>(at::linalg_qr(inside, "complete"));
    const torch::Tensor image = orthonormal_basis(at::matmul(start, inside));
    watched_.push_back(
        {start, inside, whole.narrow(1, inside.size(1), whole.size(1) - inside.size(1)).contiguous(), image});
    inside = image;
  }
}

nlohmann::ordered_json SubspaceTracker::operator()(const FactorChainImpl& chain) const {
  torch::NoGradGuard no_grad;
  const torch::Tensor values = singular_values(chain);
  nlohmann::ordered_json out = {{"singular_values", numbers(values, shown_)},
                                {"numerical_rank", numerical_rank(values, 1e-2)},
                                {"effective_rank", effective_rank(values)},
                                {"factors", nlohmann::ordered_json::array()}};
  for (size_t i = 0; i < chain.factors().size(); ++i) {
    const auto& factor = chain.factors()[i];
    const torch::Tensor value = factor.value.detach().to(torch::kFloat64), spectrum = at::linalg_svdvals(value);
    nlohmann::ordered_json row = {{"name", factor.name},
                                  {"singular_values", numbers(spectrum, shown_)},
                                  {"smallest", spectrum[-1].item<double>()}};
    if (i < watched_.size()) {
      const Watched& w = watched_[i];
      const torch::Tensor before = at::matmul(w.start, w.outside), change = at::matmul(value, w.outside) - before;
      row["tail_change"] = change.norm().item<double>() / before.norm().item<double>();
      row["angle"] = principal_angles(at::matmul(value, w.inside), w.image).max().item<double>() * 180 / M_PI;
    }
    out["factors"].push_back(std::move(row));
  }
  return out;
}

}  // namespace deeplora
