#include "factorization/diagnostics.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "core/error.h"

namespace deeplora {
namespace {

double machine_epsilon(at::ScalarType type) {
  return type == torch::kFloat64 ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
}

// Orthonormal basis of the column space, [d, rank], in float64; rank counted in the precision that the
// columns came in.
torch::Tensor column_space(const torch::Tensor& columns) {
  const auto [u, s, vt] = at::linalg_svd(columns.detach().to(torch::kFloat64), /*full_matrices=*/false);
  const double tolerance = std::max(columns.size(0), columns.size(1)) * machine_epsilon(columns.scalar_type());
  return u.narrow(1, 0, numerical_rank(s, tolerance));
}

struct Angles {
  torch::Tensor radians;  // rising, as many as the smaller space has dimensions
  int64_t dimensions_apart;
};

// Björck & Golub 1973 with Knyazev & Argentati's 2002 remedy: small angles from their sines, large ones from
// their cosines.
Angles angles(const torch::Tensor& a, const torch::Tensor& b) {
  if (a.dim() != 2 || b.dim() != 2 || a.size(0) != b.size(0))
    throw std::invalid_argument(cat("column spaces of ", a.sizes(), " and ", b.sizes(), " cannot be compared"));
  torch::NoGradGuard no_grad;
  torch::Tensor large = column_space(a), small = column_space(b);
  if (large.size(1) < small.size(1)) std::swap(large, small);
  const torch::Tensor overlap = at::matmul(large.t(), small);
  const torch::Tensor cosines = at::linalg_svdvals(overlap).clamp(0, 1);                                   // falling
  const torch::Tensor sines = at::linalg_svdvals(small - at::matmul(large, overlap)).clamp(0, 1).flip(0);  // rising
  const int64_t count = small.size(1);
  return {at::where(cosines.square() >= 0.5, sines.narrow(0, 0, count).asin(), cosines.acos()), large.size(1) - count};
}

}  // namespace

int64_t numerical_rank(const torch::Tensor& singular_values, double tolerance, int64_t larger_side) {
  if (singular_values.numel() == 0) return 0;
  torch::NoGradGuard no_grad;
  if (tolerance < 0) {
    const int64_t side = larger_side > 0 ? larger_side : singular_values.numel();
    tolerance = static_cast<double>(side) * machine_epsilon(singular_values.scalar_type());
  }
  const torch::Tensor values = singular_values.detach().to(torch::kFloat64);
  return (values > values.max() * tolerance).sum().item<int64_t>();
}

double effective_rank(const torch::Tensor& singular_values) {
  torch::NoGradGuard no_grad;
  const torch::Tensor values = singular_values.detach().to(torch::kFloat64);
  const double total = values.sum().item<double>();
  if (!(total > 0)) return 0;
  const torch::Tensor shares = values / total;
  return std::exp(-at::xlogy(shares, shares).sum().item<double>());
}

torch::Tensor principal_angles(const torch::Tensor& a, const torch::Tensor& b) { return angles(a, b).radians; }

double subspace_distance(const torch::Tensor& a, const torch::Tensor& b) {
  const auto [radians, apart] = angles(a, b);
  const int64_t count = radians.numel();
  if (count == 0) return apart == 0 ? 0 : 1;
  // || P_a - P_b ||_F^2 = |p - q| + 2 sum sin^2(angle)
  const double sines = radians.sin().square().sum().item<double>();
  return std::sqrt((static_cast<double>(apart) + 2 * sines) / (2.0 * static_cast<double>(count)));
}

}  // namespace deeplora
