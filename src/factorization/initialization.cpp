#include "factorization/initialization.h"

#include <torch/torch.h>

#include <cmath>
#include <stdexcept>

#include "core/error.h"

namespace deeplora {
namespace {

void require(bool ok, const std::string& message) {
  if (!ok) throw std::invalid_argument(message);
}

// Everything is drawn in float64 where the generator lives and cast last, so that one seed starts the same
// run in every precision and on every device.
torch::TensorOptions drawing(const at::Generator& generator) {
  return torch::TensorOptions().dtype(torch::kFloat64).device(generator.device());
}

torch::Tensor gaussian(int64_t rows, int64_t cols, const at::Generator& generator) {
  return at::randn({rows, cols}, generator, drawing(generator));
}

torch::Tensor cast(const torch::Tensor& value, const torch::TensorOptions& options) {
  return value.to(options.device(), c10::typeMetaToScalarType(options.dtype()));
}

// Q of the QR factorisation whose R has a positive diagonal: unique, hence Haar-distributed for Gaussian
// input (Mezzadri 2007), and the identity on input that is orthonormal already.
torch::Tensor positive_q(const torch::Tensor& tall) {
  const auto [q, r] = at::linalg_qr(tall, "reduced");
  const torch::Tensor diagonal = r.diagonal();
  return q * at::where(diagonal < 0, -at::ones_like(diagonal), at::ones_like(diagonal));
}

// `cols` uniformly random orthonormal columns orthogonal to `basis` (orthonormal columns).
torch::Tensor random_complement(const torch::Tensor& basis, int64_t cols, const at::Generator& generator) {
  torch::Tensor draw = gaussian(basis.size(0), cols, generator);
  for (int pass = 0; pass < 2; ++pass) {  // twice is enough (Kahan): the second pass removes what rounding left
    draw = draw - at::matmul(basis, at::matmul(basis.t(), draw));
    draw = positive_q(draw);
  }
  return draw;
}

FactorChain two_factors(torch::Tensor a, torch::Tensor b, double scale) {
  return FactorChain(std::vector<Factor>{{"A", std::move(a)}, {"B", std::move(b)}}, scale);
}

void require_pair(const ChainShape& shape) {
  require(shape.depth == 2, cat("a LoRA pair has depth 2, not ", shape.depth));
  require(shape.width >= 1, cat("a LoRA pair of rank ", shape.width));
}

}  // namespace

FactorChain kaiming_zero_chain(ChainShape shape, double scale, at::Generator generator, torch::TensorOptions options) {
  require_pair(shape);
  torch::NoGradGuard no_grad;
  // Kaiming uniform: bound = gain sqrt(3 / n) with gain^2 = 2 / (1 + a^2) = 1/3 for a = sqrt 5.
  const double bound = 1 / std::sqrt(static_cast<double>(shape.in));
  const torch::Tensor a = at::empty({shape.width, shape.in}, drawing(generator)).uniform_(-bound, bound, generator);
  return two_factors(cast(a, options), at::zeros({shape.out, shape.width}, options), scale);
}

FactorChain gaussian_zero_chain(ChainShape shape, ZeroSide zero_side, double std, double scale, at::Generator generator,
                                torch::TensorOptions options) {
  require_pair(shape);
  torch::NoGradGuard no_grad;
  torch::Tensor a = at::zeros({shape.width, shape.in}, options), b = at::zeros({shape.out, shape.width}, options);
  if (zero_side == ZeroSide::output) {
    a = cast(gaussian(shape.width, shape.in, generator) * std, options);
  } else {
    b = cast(gaussian(shape.out, shape.width, generator) * std, options);
  }
  return two_factors(std::move(a), std::move(b), scale);
}

FactorChain orthogonal_chain(ChainShape shape, double init_scale, at::Generator generator, torch::TensorOptions options,
                             double scale) {
  require(shape.depth >= 2 && shape.width >= 1,
          cat("an orthogonal chain of depth ", shape.depth, " and width ", shape.width));
  torch::NoGradGuard no_grad;
  std::vector<Factor> factors;
  for (int64_t i = 1; i <= shape.depth; ++i) {
    const int64_t rows = i == shape.depth ? shape.out : shape.width, cols = i == 1 ? shape.in : shape.width;
    const torch::Tensor q = random_semi_orthogonal(rows, cols, generator, drawing(generator));
    factors.push_back({cat("W", i), cast(q * init_scale, options)});
  }
  return FactorChain(std::move(factors), scale);
}

FactorChain compressed_chain(const torch::Tensor& left, const torch::Tensor& right, int64_t depth, double init_scale,
                             double outer_lr_scale, at::Generator generator, double scale) {
  require(
      left.dim() == 2 && right.dim() == 2 && left.size(1) == right.size(1),
      cat("a compressed chain needs as many left as right directions, found ", left.sizes(), " and ", right.sizes()));
  const int64_t m = left.size(0), n = right.size(0), k = left.size(1), smaller = std::min(m, n);
  require(depth >= 1 && k >= 1 && 2 * k <= smaller,
          cat("a compressed chain of ", k, " directions does not fit [", m, ", ", n, "]"));
  torch::NoGradGuard no_grad;
  const torch::Tensor u_g = positive_q(cast(left.detach(), drawing(generator)));
  const torch::Tensor v_g = positive_q(cast(right.detach(), drawing(generator)));
  // With A = P^T U_G Haar-distributed inside P's row space, A^T V_G is distributed as a k x k block of a Haar
  // matrix of the smaller side. Its singular value decomposition X c Q^T splits A = V_G Q c X^T + N s X^T,
  // c^2 + s^2 = 1.
  const torch::Tensor block = random_semi_orthogonal(smaller, k, generator, drawing(generator)).narrow(0, 0, k);
  const auto [x, cosines, qt] = at::linalg_svd(block, /*full_matrices=*/false);
  const torch::Tensor c = cosines.clamp(0, 1), s = ((1 - c) * (1 + c)).sqrt();
  const torch::Tensor normal_in = random_complement(v_g, k, generator),
                      normal_out = random_complement(u_g, k, generator);
  // V = [V_G, N] is a basis of span[V_G, A]; U = P V follows from P A = U_G and the equality of the Gram
  // matrices: P V_G = U_G X c Q^T + Y s Q^T (section 2's Z_1) and P N = U_G X s - Y c, a rotation of [U_G,
  // Y].
  const torch::Tensor aligned = at::matmul(u_g, x);
  const torch::Tensor image = at::matmul(aligned * c + normal_out * s, qt);
  const torch::Tensor u = at::cat({image, aligned * s - normal_out * c}, 1), v = at::cat({v_g, normal_in}, 1);

  const auto options = left.options().requires_grad(false);
  std::vector<Factor> factors{{"V", cast(v.t(), options), outer_lr_scale}};
  for (int64_t i = 1; i <= depth; ++i) factors.push_back({cat("W", i), at::eye(2 * k, options) * init_scale});
  factors.push_back({"U", cast(u, options), outer_lr_scale});
  return FactorChain(std::move(factors), scale);
}

FactorChain compression_of(const FactorChainImpl& full, const torch::Tensor& left, const torch::Tensor& right,
                           double init_scale, double outer_lr_scale) {
  const int64_t k = left.size(1), smaller = std::min(full.out(), full.in());
  require(left.size(0) == full.out() && right.size(0) == full.in() && right.size(1) == k && 2 * k <= smaller &&
              full.width() == smaller,
          cat("a chain of ", full.out(), " x ", full.in(), " and width ", full.width(),
              " has no compression to directions ", left.sizes(), " and ", right.sizes()));
  torch::NoGradGuard no_grad;
  torch::Tensor pulled = left.detach().to(torch::kFloat64);  // P^T U_G
  for (auto factor = full.factors().rbegin(); factor != full.factors().rend(); ++factor)
    pulled = at::matmul(factor->value.to(torch::kFloat64).t(), pulled) / init_scale;
  const torch::Tensor v = positive_q(at::cat({right.detach().to(torch::kFloat64), pulled}, 1));
  torch::Tensor u = v;
  for (const auto& factor : full.factors()) u = at::matmul(factor.value.to(torch::kFloat64), u) / init_scale;

  const auto options = left.options().requires_grad(false);
  std::vector<Factor> factors{{"V", cast(v.t(), options), outer_lr_scale}};
  for (int64_t i = 1; i <= full.depth(); ++i) factors.push_back({cat("W", i), at::eye(2 * k, options) * init_scale});
  factors.push_back({"U", cast(u, options), outer_lr_scale});
  return FactorChain(std::move(factors));
}

torch::Tensor random_semi_orthogonal(int64_t rows, int64_t cols, at::Generator generator,
                                     torch::TensorOptions options) {
  torch::NoGradGuard no_grad;
  const bool tall = rows >= cols;
  const torch::Tensor q = positive_q(tall ? gaussian(rows, cols, generator) : gaussian(cols, rows, generator));
  return cast(tall ? q : q.t(), options).contiguous();
}

}  // namespace deeplora
