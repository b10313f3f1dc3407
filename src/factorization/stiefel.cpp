#include "factorization/stiefel.h"

#include <torch/torch.h>

namespace deeplora {

torch::Tensor tangent_part(const torch::Tensor& point, const torch::Tensor& gradient) {
  if (point.size(0) < point.size(1)) return tangent_part(point.t(), gradient.t()).t();
  const torch::Tensor overlap = at::matmul(point.t(), gradient);
  return gradient - at::matmul(point, (overlap + overlap.t()) / 2);
}

torch::Tensor polar_factor(const torch::Tensor& matrix) {
  if (matrix.size(0) < matrix.size(1)) return polar_factor(matrix.t()).t();
  const torch::Tensor x = matrix.to(torch::kFloat64);
  const auto [values, vectors] = at::linalg_eigh(at::matmul(x.t(), x));
  const torch::Tensor inverse_root = at::matmul(vectors * values.rsqrt(), vectors.t());
  return at::matmul(x, inverse_root).to(matrix.scalar_type());
}

}  // namespace deeplora
