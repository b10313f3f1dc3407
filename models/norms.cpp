#include "models/norms.h"

#include <torch/torch.h>

namespace deeplora {

FrozenLayerNormImpl::FrozenLayerNormImpl(WeightMap& weights, const std::string& name, int64_t width, double eps) : eps_(eps) {
  weight_ = register_parameter("weight", weights.take(name + ".weight", {width}), /*requires_grad=*/false);
  bias_ = register_parameter("bias", weights.take(name + ".bias", {width}), /*requires_grad=*/false);
}

torch::Tensor FrozenLayerNormImpl::forward(const torch::Tensor& x) const {
  return at::layer_norm(x, {x.size(-1)}, weight_, bias_, eps_);
}

FrozenRmsNormImpl::FrozenRmsNormImpl(WeightMap& weights, const std::string& name, int64_t width, double eps) : eps_(eps) {
  weight_ = register_parameter("weight", weights.take(name + ".weight", {width}), /*requires_grad=*/false);
}

torch::Tensor FrozenRmsNormImpl::forward(const torch::Tensor& x) const {
  return x * (x.square().mean(-1, /*keepdim=*/true) + eps_).rsqrt() * weight_;
}

}  // namespace deeplora
