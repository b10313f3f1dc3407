// Leading singular pairs without a full decomposition.
#pragma once

#include <ATen/core/Generator.h>
#include <torch/types.h>

namespace deeplora {

/// u [m, k], s [k] falling, v [n, k]: matrix = u diag(s) v^T on its leading k pairs.
struct SingularPairs {
  torch::Tensor u, s, v;
};

/// Leading k singular pairs of matrix [m, n] by randomized subspace iteration (Halko et al. 2011, algorithm 4.4);
/// exact SVD where the matrix is small. k is cut to min(m, n).
SingularPairs leading_singular_pairs(const torch::Tensor& matrix, int64_t k, at::Generator generator, int64_t iterations = 4,
                                     int64_t oversampling = 8);

/// All singular values of scale * W_L ... W_1 from the small cores of QR factorisations: O((m + n) r^2).
torch::Tensor singular_values(const class FactorChainImpl& chain);

}  // namespace deeplora
