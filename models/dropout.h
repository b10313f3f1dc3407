// Dropout whose mask is a function of a seed: vectorised, the same for any number of threads, and not stored.
#pragma once

#include <torch/types.h>

#include <cstdint>

namespace deeplora {

/// Seed of one mask, drawn from LibTorch's default CPU generator.
int64_t draw_dropout_seed();

/// residual + dropout(x, p) for x and residual [N, D]: each element of x is dropped with probability p in [0, 1), the
/// others are divided by 1 - p. With p = 0 the plain sum. The mask is computed again in the backward pass.
torch::Tensor dropout_add(const torch::Tensor& x, const torch::Tensor& residual, double p);

/// dropout(x, p) of any shape, the same way.
torch::Tensor seeded_dropout(const torch::Tensor& x, double p);

}  // namespace deeplora
