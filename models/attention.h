// Softmax attention over packed sequences, without padding and without a [T, T] matrix in memory.
#pragma once

#include <torch/types.h>

#include <vector>

namespace deeplora {

/// Softmax(q k^T / sqrt(d)) v, sequence by sequence and head by head. q, k, v [N, H d] float32 on the CPU, rows of equal stride; sequence s
/// has the rows offsets[s] .. offsets[s + 1] - 1, so offsets has one more entry than there are sequences; rows behind
/// the last are zero in the output and in the gradients. Each weight is dropped with probability
/// `dropout` (mask from a drawn seed). Keeps q, k, v, the output and one number per row and head for the backward pass and computes the weights
/// again there (Dao et al. 2022). [N, H d]
torch::Tensor sequence_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, int64_t heads,
                                 const std::vector<int64_t>& offsets, double dropout);

}  // namespace deeplora
