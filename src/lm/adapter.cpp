#include "lm/adapter.h"

#include <torch/torch.h>

#include "factorization/chain_linear.h"
#include "factorization/lookup.h"

namespace deeplora {

torch::Tensor Adapter::linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias) {
  return frozen_linear(x, weight, bias) + forward(x);
}

torch::Tensor Adapter::embedding(const torch::Tensor& ids, const torch::Tensor& weight) {
  const torch::Tensor base = look_up(weight, ids);
  return base + rows(ids).to(base.scalar_type());
}

std::optional<PeftUpdate> Adapter::peft_update() const {
  const auto pair = low_rank_pair();
  if (!pair) return std::nullopt;
  return PeftUpdate{*pair, {}};
}

torch::Tensor Adapter::singular_values() const {
  torch::NoGradGuard no_grad;
  return at::linalg_svdvals(delta());
}

}  // namespace deeplora
