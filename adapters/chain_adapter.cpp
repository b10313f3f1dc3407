#include "adapters/chain_adapter.h"

#include <torch/torch.h>

#include <algorithm>
#include <stdexcept>

#include "factorization/chain_linear.h"
#include "factorization/spectral.h"

namespace deeplora {

ChainAdapter::ChainAdapter(FactorChain chain, double dropout)
    : chain_(register_module("chain", std::move(chain))), dropout_(dropout) {
  if (!(dropout >= 0 && dropout < 1)) throw std::invalid_argument(cat("dropout ", dropout, " is not in [0, 1)"));
}

torch::Tensor ChainAdapter::forward(const torch::Tensor& x) {
  return chain_->forward(dropout_ > 0 && is_training() ? at::dropout(x, dropout_, /*train=*/true) : x);
}

torch::Tensor ChainAdapter::linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias) {
  const auto update = chain_update();
  if (!update || !can_fuse_chain(x, weight, bias, update->factors)) return Adapter::linear(x, weight, bias);
  return linear_with_chain(x, weight, bias, update->factors, update->scale);
}

std::optional<ChainUpdate> ChainAdapter::chain_update() const {
  if (dropout_ > 0 && is_training()) return std::nullopt;
  ChainUpdate out{{}, chain_->scale()};
  for (const auto& factor : chain_->factors()) out.factors.push_back(factor.value);
  return out;
}

torch::Tensor ChainAdapter::rows(const torch::Tensor& ids) { return chain_->rows(ids); }

torch::Tensor ChainAdapter::delta() const {
  torch::NoGradGuard no_grad;
  return chain_->product();
}

std::vector<NamedTensor> ChainAdapter::tensors() const {
  std::vector<NamedTensor> out;
  for (const auto& factor : chain_->factors()) out.push_back({factor.name, factor.value});
  return out;
}

std::optional<LowRankPair> ChainAdapter::low_rank_pair() const {
  torch::NoGradGuard no_grad;
  const auto [b, a] = chain_->collapse();
  return LowRankPair{b.detach(), a.detach(), chain_->scale()};
}

torch::Tensor ChainAdapter::singular_values() const { return deeplora::singular_values(*chain_); }

}  // namespace deeplora
