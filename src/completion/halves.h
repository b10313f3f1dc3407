// A factor chain seen as two halves, W = B A, and the chain rule from the halves' gradients to the factors'.
#pragma once

#include <vector>

#include "completion/objective.h"
#include "factorization/factor_chain.h"

namespace deeplora {

/// Cut at the narrowest inner width (the one nearest to the input of several): A = W_c ... W_1, B = W_L ... W_{c+1}.
/// Both halves are one tall factor times small ones, so everything here costs O((m + n) r^2).
class ChainHalves {
 public:
  /// The chain's scale must be 1. Every factor gets a gradient of its own that gradients() fills, frozen ones included.
  /// `feedback`: fixed matrices of the factors' shapes that take the place of the factors in the backward pass
  /// (feedback alignment, Lillicrap et al. 2016); empty: the exact gradient. Throws std::invalid_argument.
  explicit ChainHalves(FactorChain chain, std::vector<torch::Tensor> feedback = {});

  /// Inner width r at the cut.
  int64_t width() const { return width_; }
  /// Writes b [m, r] and a_t [n, r].
  void write(Objective& objective);
  void write(const torch::Tensor& b, const torch::Tensor& a_t);
  /// Loss of `objective` at the chain, with `scale` x its gradient in every factor's grad.
  double gradient(Objective& objective, double scale);
  /// Loss of `objective` at the chain, which then moves: W_l -= lr x its lr_scale x (scale x gradient + weight_decay
  /// W_l).
  double descend(Objective& objective, double scale, double lr, double weight_decay);

  const FactorChain& chain() const { return chain_; }

 private:
  /// to = beta x to + alpha x gradient.
  struct Update {
    torch::Tensor to;
    double beta = 0, alpha = 0;
  };
  /// A factor as the half sees it (transposed in A^T), what stands for it on the way back, and its gradient.
  struct Part {
    torch::Tensor value, back, grad;
    double lr_scale;
    Update update;
  };
  /// tall * small_1 * ... * small_k; small_1 is next to the tall one.
  struct Half {
    Part tall;
    std::vector<Part> small;
    torch::Tensor core;  ///< small_1 ... small_k of the last write
  };
  static torch::Tensor core_of(const Half& half, torch::Tensor Part::* which, size_t from = 0);
  static void write_half(Half& half, const torch::Tensor& out);
  static void update_half(Half& half, const torch::Tensor& upstream, bool output_side);
  double backward(Objective& objective);

  FactorChain chain_;
  Half output_, input_;  ///< B and A^T
  int64_t width_;
  bool feedback_;
};

}  // namespace deeplora
