// The Stiefel manifold: matrices with orthonormal columns (tall) or rows (wide).
#pragma once

#include <torch/types.h>

namespace deeplora {

/// `gradient` without its part normal to the manifold at `point` (Euclidean metric): G - X sym(X^T G) of a tall X, its
/// mirror image of a wide one. Both [m, r], m >= r, or [r, n], r <= n.
torch::Tensor tangent_part(const torch::Tensor& point, const torch::Tensor& gradient);

/// The nearest matrix with orthonormal columns (rows): X (X^T X)^{-1/2}, computed in float64 and returned in X's dtype.
/// As a retraction of X - t E with E tangent it is (X - t E)(I + t^2 E^T E)^{-1/2}. `matrix` must have full rank.
torch::Tensor polar_factor(const torch::Tensor& matrix);

}  // namespace deeplora
