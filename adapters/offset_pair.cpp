#include "adapters/offset_pair.h"

#include <torch/torch.h>

#include "factorization/spectral.h"

namespace deeplora {

OffsetPair::OffsetPair(const torch::Tensor& a, const torch::Tensor& b, double scale, double dropout)
    : trained_(register_module("chain", FactorChain(std::vector<Factor>{{"A", a}, {"B", b}}, scale))),
      start_(register_module("start", FactorChain(std::vector<Factor>{{"A0", a, 0}, {"B0", b, 0}}, scale))),
      dropout_(dropout) {}

torch::Tensor OffsetPair::forward(const torch::Tensor& x) {
  const bool drop = dropout_ > 0 && is_training();
  return trained_->forward(drop ? at::dropout(x, dropout_, /*train=*/true) : x) - start_->forward(x);
}

torch::Tensor OffsetPair::rows(const torch::Tensor& ids) { return trained_->rows(ids) - start_->rows(ids); }

torch::Tensor OffsetPair::delta() const {
  torch::NoGradGuard no_grad;
  return trained_->product() - start_->product();
}

std::vector<NamedTensor> OffsetPair::tensors() const {
  std::vector<NamedTensor> out;
  for (const FactorChain& chain : {trained_, start_})
    for (const auto& factor : chain->factors()) out.push_back({factor.name, factor.value});
  return out;
}

std::optional<LowRankPair> OffsetPair::low_rank_pair() const {
  torch::NoGradGuard no_grad;
  const auto [b, a] = trained_->collapse();
  const auto [b0, a0] = start_->collapse();
  return LowRankPair{at::cat({b, -b0}, 1), at::cat({a, a0}, 0), trained_->scale()};
}

torch::Tensor OffsetPair::singular_values() const {
  const auto pair = low_rank_pair();
  return deeplora::singular_values(*FactorChain(std::vector<Factor>{{"A", pair->a}, {"B", pair->b}}, pair->scale));
}

}  // namespace deeplora
