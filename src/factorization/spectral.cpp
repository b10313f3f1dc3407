#include "factorization/spectral.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/error.h"
#include "factorization/factor_chain.h"

namespace deeplora {
namespace {

SingularPairs leading(const torch::Tensor& matrix, int64_t k) {
  const auto [u, s, vt] = at::linalg_svd(matrix, /*full_matrices=*/false);
  return {u.narrow(1, 0, k).contiguous(), s.narrow(0, 0, k).contiguous(), vt.narrow(0, 0, k).t().contiguous()};
}

// R of the QR factorisation, [min(rows, cols), cols].
torch::Tensor triangle(const torch::Tensor& columns) { return std::get<1>(at::linalg_qr(columns, "r")); }

}  // namespace

SingularPairs leading_singular_pairs(const torch::Tensor& matrix, int64_t k, at::Generator generator,
                                     int64_t iterations, int64_t oversampling) {
  if (matrix.dim() != 2) throw std::invalid_argument(cat("singular pairs of a tensor ", matrix.sizes()));
  const auto dtype = matrix.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
  const torch::Tensor a = matrix.detach().to(dtype);
  return leading_singular_pairs(
      MatrixAction{a.size(0), a.size(1), a.options(), [&a](const torch::Tensor& right) { return at::matmul(a, right); },
                   [&a](const torch::Tensor& left) { return at::matmul(a.t(), left); }},
      k, std::move(generator), iterations, oversampling);
}

SingularPairs leading_singular_pairs(const MatrixAction& matrix, int64_t k, at::Generator generator, int64_t iterations,
                                     int64_t oversampling) {
  if (k < 1) throw std::invalid_argument(cat(k, " singular pairs"));
  torch::NoGradGuard no_grad;
  const int64_t smaller = std::min(matrix.rows, matrix.cols);
  k = std::min(k, smaller);
  const int64_t sampled = k + oversampling;
  if (smaller <= std::max<int64_t>(32, 2 * sampled)) {
    const torch::Tensor identity = at::eye(smaller, matrix.options);
    return leading(matrix.cols == smaller ? matrix.times(identity) : matrix.transposed_times(identity).t(), k);
  }
  return subspace_iteration(matrix, k, sampled, std::move(generator), iterations);
}

SingularPairs subspace_iteration(const MatrixAction& matrix, int64_t k, int64_t sampled, at::Generator generator,
                                 int64_t iterations) {
  torch::NoGradGuard no_grad;
  const auto drawing = torch::TensorOptions().dtype(torch::kFloat64).device(generator.device());
  const torch::Tensor probe = at::randn({matrix.cols, sampled}, generator, drawing).to(matrix.options);
  torch::Tensor q = orthonormal_basis(matrix.times(probe));
  // A QR in every half step keeps small directions from drowning in rounding.
  for (int64_t i = 0; i < iterations; ++i)
    q = orthonormal_basis(matrix.times(orthonormal_basis(matrix.transposed_times(q))));
  SingularPairs pairs = leading(matrix.transposed_times(q).t(), k);
  pairs.u = at::matmul(q, pairs.u);
  return pairs;
}

torch::Tensor orthonormal_basis(const torch::Tensor& columns) { return std::get<0>(at::linalg_qr(columns, "reduced")); }

torch::Tensor singular_values(const FactorChainImpl& chain) {
  torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> values;
  for (const auto& factor : chain.factors()) values.push_back(factor.value.detach().to(torch::kFloat64));
  if (values.size() == 1) return at::linalg_svdvals(values.front()) * std::abs(chain.scale());
  // W = B A, cut at the narrowest inner width r; with B = Q_B R_B and A^T = Q_A R_A the core R_B R_A^T is at
  // most r x r.
  const auto inner_end = values.end() - 1;
  const auto cut = std::min_element(
      values.begin(), inner_end, [](const torch::Tensor& x, const torch::Tensor& y) { return x.size(0) < y.size(0); });
  torch::Tensor a_transposed = values.front().t();
  for (auto value = values.begin() + 1; value <= cut; ++value) a_transposed = at::matmul(a_transposed, value->t());
  torch::Tensor b = values.back();
  for (auto value = values.end() - 2; value > cut; --value) b = at::matmul(b, *value);
  return at::linalg_svdvals(at::matmul(triangle(b), triangle(a_transposed).t())) * std::abs(chain.scale());
}

}  // namespace deeplora
