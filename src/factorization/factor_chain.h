// The one object of the project: a matrix kept as a product of factors, W = scale * W_L ... W_2 W_1 (method
// paper, section 2). Adapters (W is the update of a frozen weight) and matrix completion (W is the recovered
// matrix) are both chains.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <string>
#include <utility>
#include <vector>

#include "core/optimizer.h"

namespace deeplora {

/// One factor, value [d_i, d_{i-1}]. lr_scale multiplies the learning rate; 0 freezes the factor.
struct Factor {
  std::string name;
  torch::Tensor value;
  double lr_scale = 1.0;
  bool orthonormal = false;  ///< see ParamGroup
};

/// Sizes of a chain of one inner width: out x in = m x n, width = r, depth = L >= 2.
struct ChainShape {
  int64_t out, in, width, depth;
};

class FactorChainImpl : public torch::nn::Module {
 public:
  /// Factors from input to output: W_1 [d_1, n] first, W_L [m, d_{L-1}] last; registered as parameters by
  /// name. Throws std::invalid_argument when neighbours do not fit, a factor is not 2-D, or names repeat.
  explicit FactorChainImpl(std::vector<Factor> input_to_output, double scale = 1.0);

  /// [..., n] -> [..., m], factor by factor; the m x n product is never formed. Computed in the factors'
  /// dtype (unless autocast is on) and returned in x's dtype.
  torch::Tensor forward(const torch::Tensor& x);
  /// Rows of the product for embeddings: ids [...] -> [..., n] = W[ids, :].
  torch::Tensor rows(const torch::Tensor& ids);
  /// scale * W_L ... W_1, [m, n]; multiplied in the cheapest order.
  torch::Tensor product() const;
  /// {B, A} with B A = W_L ... W_1 (scale not included): A = W_1 [d_1, n], B = W_L ... W_2 [m, d_1].
  std::pair<torch::Tensor, torch::Tensor> collapse() const;

  /// One group per learning-rate scale and constraint; orthonormal ones take no weight decay; frozen factors are left
  /// out. Names are the factors' names.
  std::vector<ParamGroup> param_groups() const;
  /// From input to output; values are the live parameters.
  const std::vector<Factor>& factors() const { return factors_; }
  double scale() const { return scale_; }
  int64_t in() const { return factors_.front().value.size(1); }
  int64_t out() const { return factors_.back().value.size(0); }
  int64_t depth() const { return static_cast<int64_t>(factors_.size()); }
  /// Smallest inner width: an upper bound on the product's rank.
  int64_t width() const;

 private:
  std::vector<Factor> factors_;
  double scale_;
};
TORCH_MODULE(FactorChain);

}  // namespace deeplora
