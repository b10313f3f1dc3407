// Normalisations with frozen weights; `full` fine-tuning may switch their gradients on.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "models/weight_map.h"

namespace deeplora {

/// (x - mean) / sqrt(var + eps) * weight + bias over the last dimension.
class FrozenLayerNormImpl : public torch::nn::Module {
 public:
  FrozenLayerNormImpl(WeightMap& weights, const std::string& name, int64_t width, double eps);
  torch::Tensor forward(const torch::Tensor& x) const;  ///< [..., D] -> [..., D]

 private:
  torch::Tensor weight_, bias_;
  double eps_;
};
TORCH_MODULE(FrozenLayerNorm);

/// x / sqrt(mean(x^2) + eps) * weight over the last dimension.
class FrozenRmsNormImpl : public torch::nn::Module {
 public:
  FrozenRmsNormImpl(WeightMap& weights, const std::string& name, int64_t width, double eps);
  torch::Tensor forward(const torch::Tensor& x) const;  ///< [..., D] -> [..., D]

 private:
  torch::Tensor weight_;
  double eps_;
};
TORCH_MODULE(FrozenRmsNorm);

}  // namespace deeplora
