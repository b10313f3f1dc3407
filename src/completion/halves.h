// A factor chain seen as two halves, W = B A, and the chain rule from the halves' gradients to the factors'.
#pragma once

#include <vector>

#include "completion/objective.h"
#include "factorization/factor_chain.h"

namespace deeplora {

/// Cut at the narrowest inner width (the one nearest to the input of several): A = W_c ... W_1, B = W_L ... W_{c+1}. Both
/// halves are one tall factor times small ones, so everything here costs O((m + n) r^2).
class ChainHalves {
 public:
  /// The chain's scale must be 1. Every factor gets a gradient of its own that gradients() fills, frozen ones included.
  /// `feedback`: fixed matrices of the factors' shapes that take the place of the factors in the backward pass (feedback
  /// alignment, Lillicrap et al. 2016); empty: the exact gradient. Throws std::invalid_argument.
  explicit ChainHalves(FactorChain chain, std::vector<torch::Tensor> feedback = {});

  /// Inner width r at the cut.
  int64_t width() const { return width_; }
  /// Writes b [m, r] and a_t [n, r].
  void write(Objective& objective);
  void write(const torch::Tensor& b, const torch::Tensor& a_t);
  /// Loss of `objective` at the chain, with `scale` x its gradient in every factor's grad.
  double gradient(Objective& objective, double scale);

  const FactorChain& chain() const { return chain_; }

 private:
  /// tall * small_1 * ... * small_k; small_1 is next to the tall one.
  struct Half {
    torch::Tensor tall, tall_grad;
    std::vector<torch::Tensor> small, small_grad;
    torch::Tensor core;                             ///< small_1 ... small_k of the last write
    torch::Tensor tall_back;                        ///< what stands for them on the way back
    std::vector<torch::Tensor> small_back;
  };
  static void write_half(Half& half, const torch::Tensor& out);
  static void gradient_of_half(Half& half, const torch::Tensor& upstream, double scale, bool output_side);
  static torch::Tensor product(const std::vector<torch::Tensor>& factors, size_t from, size_t to, const torch::Tensor& like);

  FactorChain chain_;
  Half output_, input_;  ///< B and A^T
  int64_t width_;
  bool feedback_;
};

}  // namespace deeplora
