// Leading singular pairs without a full decomposition.
#pragma once

#include <ATen/core/Generator.h>
#include <torch/types.h>

#include <functional>

namespace deeplora {

class FactorChainImpl;

/// u [m, k], s [k] falling, v [n, k]: matrix = u diag(s) v^T on its leading k pairs.
struct SingularPairs {
  torch::Tensor u, s, v;
};

/// A matrix [rows, cols] that is known by its products only, for those too large to be formed.
struct MatrixAction {
  int64_t rows, cols;
  torch::TensorOptions options;                                         ///< dtype and device of the products
  std::function<torch::Tensor(const torch::Tensor&)> times;             ///< [cols, s] -> [rows, s]
  std::function<torch::Tensor(const torch::Tensor&)> transposed_times;  ///< [rows, s] -> [cols, s]
};

/// Leading k singular pairs of matrix [m, n] by randomized subspace iteration (Halko et al. 2011,
/// algorithm 4.4); exact SVD where the matrix is small. k is cut to min(m, n). u and v have orthonormal
/// columns even where the matrix has lower rank. Float64 in float64, any other precision in float32. Throws
/// std::invalid_argument unless the matrix is 2-D and k >= 1.
SingularPairs leading_singular_pairs(const torch::Tensor& matrix, int64_t k, at::Generator generator,
                                     int64_t iterations = 4, int64_t oversampling = 8);

/// The same of a matrix given by its products: O((m + n) (k + oversampling)) memory, 2 + 2 iterations products.
SingularPairs leading_singular_pairs(const MatrixAction& matrix, int64_t k, at::Generator generator,
                                     int64_t iterations = 4, int64_t oversampling = 8);

/// The iteration itself, without the shortcut for small matrices: k of `sampled` directions, k at most `sampled` and
/// the smaller side.
SingularPairs subspace_iteration(const MatrixAction& matrix, int64_t k, int64_t sampled, at::Generator generator,
                                 int64_t iterations);

/// Orthonormal basis of the space of full-rank columns [d, k], by QR.
torch::Tensor orthonormal_basis(const torch::Tensor& columns);

/// The singular values of scale * W_L ... W_1 that can differ from zero, falling: min(m, n, width) values in
/// float64, from the small cores of QR factorisations in O((m + n) r^2).
torch::Tensor singular_values(const FactorChainImpl& chain);

}  // namespace deeplora
