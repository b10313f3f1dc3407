// Frozen linear layers that read one input, and the factor chains beside them, as one autograd function.
#pragma once

#include <torch/types.h>

#include <vector>

#include "factorization/input_function.h"
#include "factorization/frozen_matrix.h"

namespace deeplora {

/// What an adapter adds to a layer: scale * x (W_L ... W_1)^T, factors from input to output (W_1 [d_1, n] first, W_L
/// [m, d_{L-1}] last). No factors: nothing.
struct ChainUpdate {
  std::vector<torch::Tensor> factors;
  double scale = 1;
};

/// One layer of those that are computed together: m rows of the joined weight, and its update.
struct ChainLayer {
  int64_t out;  ///< m
  ChainUpdate update;
};

/// y_i = x W_i^T + b_i + update_i(x) for x [..., n], the frozen W_i [m_i, n] one below the other in `weight` [sum m_i,
/// n], which may be cut into parts elsewhere, b_i likewise in `bias` (may be undefined) -> y_i [..., m_i], which share
/// memory. The same values and gradients as the operators one by one; what it saves is products and passes over memory:
/// one product for all W_i and one for all first factors, updates accumulated into the products instead of added to
/// them, and only x and the narrow products kept for the backward pass. Under autocast the operands are in its dtype
/// (on the CPU the results in float32), gradients of the factors are in theirs. With a function, x stands for
/// function(x) above; can_apply(x) has to hold. A weight in half precision serves a wider x too.
std::vector<torch::Tensor> linear_with_chains(const torch::Tensor& x, const FrozenMatrix& weight,
                                              const torch::Tensor& bias, const std::vector<ChainLayer>& layers,
                                              InputFunction function = InputFunction::identity);

/// The same with the y_i side by side in one tensor [..., sum m_i].
torch::Tensor linear_with_chains_as_one(const torch::Tensor& x, const FrozenMatrix& weight, const torch::Tensor& bias,
                                        const std::vector<ChainLayer>& layers);

/// The same for one layer.
torch::Tensor linear_with_chain(const torch::Tensor& x, const FrozenMatrix& weight, const torch::Tensor& bias,
                                const std::vector<torch::Tensor>& factors, double scale);

/// x W^T + b. A weight in half precision that meets a wider x is not widened whole, nor kept so for the way back.
torch::Tensor frozen_linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias);

/// Whether linear_with_chain() serves these: a frozen weight and bias, and one floating-point dtype throughout; the
/// weight may be in half precision where x is in float32.
bool can_fuse_chain(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                    const std::vector<torch::Tensor>& factors);

/// [N, sum m_i] of tensors [N, m_i]: without a copy where they already lie side by side in one.
torch::Tensor side_by_side(const std::vector<torch::Tensor>& parts);

}  // namespace deeplora
