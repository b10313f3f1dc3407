// Normalisations with frozen weights; `full` fine-tuning may switch their gradients on.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "models/weight_map.h"

namespace deeplora {

/// LayerNorm(residual + dropout(x, p)) weight + bias for x and residual [..., D], weight and bias [D]. Frozen weights
/// on the CPU in float32: in one pass over memory, keeping the sum and two numbers for each row for the backward pass.
torch::Tensor norm_of_sum(const torch::Tensor& x, const torch::Tensor& residual, const torch::Tensor& weight,
                          const torch::Tensor& bias, double eps, double p);

/// x / sqrt(mean(x^2) + eps) weight for x [..., D], weight [D]; a frozen one on the CPU in float32 in one pass over
/// memory.
torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps);

/// (x - mean) / sqrt(var + eps) * weight + bias over the last dimension.
class FrozenLayerNormImpl : public torch::nn::Module {
 public:
  /// `biased` false: there is no bias.
  FrozenLayerNormImpl(WeightMap& weights, const std::string& name, int64_t width, double eps, bool biased = true);
  torch::Tensor forward(const torch::Tensor& x) const;
  /// forward(residual + dropout(x, p))
  torch::Tensor of_sum(const torch::Tensor& x, const torch::Tensor& residual, double p) const {
    return norm_of_sum(x, residual, weight_, bias_, eps_, p);
  }  ///< [..., D] -> [..., D]

 private:
  torch::Tensor weight_, bias_;
  double eps_;
};
TORCH_MODULE(FrozenLayerNorm);

/// x / sqrt(mean(x^2) + eps) * (weight + offset) over the last dimension.
class FrozenRmsNormImpl : public torch::nn::Module {
 public:
  FrozenRmsNormImpl(WeightMap& weights, const std::string& name, int64_t width, double eps, double offset = 0);
  torch::Tensor forward(const torch::Tensor& x) const;  ///< [..., D] -> [..., D]

 private:
  torch::Tensor weight_;
  double eps_, offset_;
};
TORCH_MODULE(FrozenRmsNorm);

}  // namespace deeplora
