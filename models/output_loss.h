// The losses of next tokens right behind a frozen output layer, without logits in memory.
#pragma once

#include <torch/types.h>

#include "factorization/frozen_matrix.h"

namespace deeplora {

/// Whether output_losses() serves this weight here and now: frozen, float32 or half precision, on the CPU, without
/// autocast or with that of bfloat16.
bool can_fuse_output_loss(const torch::Tensor& weight);

/// -log softmax(W h)[label] of the n tokens with a label, in their order [n] float32: states h [N, D] float32, labels
/// [N] in 0 .. V - 1 with kIgnored among them, W [V, D]. Tokens without a label are not multiplied. Works through the
/// tokens in stretches: products, losses and the gradient of the states are one visit, so that no [N, V] matrix
/// outlives its stretch (V is 50 000 and more). `operand` is W as it is, or as autocast reads it. Throws Error for
/// labels beyond V.
torch::Tensor output_losses(const torch::Tensor& states, const FrozenMatrix& operand, int64_t vocabulary,
                            const torch::Tensor& labels);

}  // namespace deeplora
