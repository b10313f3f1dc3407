#include "factorization/products.h"

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

#include <algorithm>
#include <limits>

#include "core/parallel.h"
#include "factorization/block_products.h"
#include "factorization/layout.h"
#include "factorization/narrow_products.h"

/// MKL's product of bfloat16 matrices with float32 results, where the LibTorch in use brings it. Next to oneDNN's,
/// which at::mm takes, it compiles nothing for a new shape, costs less per call and leaves the sums unrounded.
extern "C" __attribute__((weak)) void cblas_gemm_bf16bf16f32(int layout, int transpose_a, int transpose_b, int m, int n,
                                                             int k, float alpha, const uint16_t* a, int lda,
                                                             const uint16_t* b, int ldb, float beta, float* c, int ldc);

namespace deeplora {
namespace {

constexpr int kRowMajor = 101, kAsItIs = 111, kTransposed = 112;

/// A matrix as BLAS names it.
struct Operand {
  const uint16_t* data;
  int transpose;
  int64_t stride;
};

bool fits(int64_t size) { return size > 0 && size <= std::numeric_limits<int>::max(); }

/// Nothing for a matrix of which neither rows nor columns lie side by side.
std::optional<Operand> operand_of(const torch::Tensor& x) {
  const auto* data = reinterpret_cast<const uint16_t*>(x.const_data_ptr<at::BFloat16>());
  if (x.stride(1) == 1 && x.stride(0) >= x.size(1) && fits(x.stride(0))) return Operand{data, kAsItIs, x.stride(0)};
  if (x.stride(0) == 1 && x.stride(1) >= x.size(0) && fits(x.stride(1))) return Operand{data, kTransposed, x.stride(1)};
  return std::nullopt;
}

/// c [M, N] = scale a b + keep c; false where MKL cannot take it.
bool mkl_product(torch::Tensor& c, const torch::Tensor& a, const torch::Tensor& b, double scale, float keep) {
  if (cblas_gemm_bf16bf16f32 == nullptr || c.stride(1) != 1 || !fits(c.stride(0)) || !fits(a.size(0)) ||
      !fits(a.size(1)) || !fits(b.size(1)))
    return false;
  const auto left = operand_of(a), right = operand_of(b);
  if (!left || !right) return false;
  cblas_gemm_bf16bf16f32(kRowMajor, left->transpose, right->transpose, static_cast<int>(a.size(0)),
                         static_cast<int>(b.size(1)), static_cast<int>(a.size(1)), static_cast<float>(scale),
                         left->data, static_cast<int>(left->stride), right->data, static_cast<int>(right->stride), keep,
                         c.mutable_data_ptr<float>(), static_cast<int>(c.stride(0)));
  return true;
}

/// bias [N] in each of `rows` rows, float32 on the CPU; LibTorch's broadcast takes three times as long.
torch::Tensor repeated(const torch::Tensor& bias, int64_t rows) {
  const torch::Tensor row = bias.contiguous();
  const int64_t width = row.size(0);
  torch::Tensor out = torch::empty({rows, width}, bias.options());
  float* to = out.mutable_data_ptr<float>();
  const float* from = row.const_data_ptr<float>();
  parallel_rows(rows, width, [&](int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; ++i) std::copy_n(from, width, to + i * width);
  });
  return out;
}

/// Where MKL is slow; false where it is left to it.
bool own_product(torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& b, double scale, bool add) {
  if (prefers_block_products()) return block_product(y, a, b, scale, add);
  return prefers_narrow_product(a, b) && narrow_product(y, a, b, scale, add);
}

/// g^T h, a last factor's gradient: MKL takes it at a third of the speed of h^T g (65 and 224 GFLOP/s on two cores with
/// AVX-512).
bool is_narrow_gradient(const torch::Tensor& a, const torch::Tensor& b) {
  return a.device().is_cpu() && b.size(1) <= kNarrow && a.size(0) > kNarrow && lies_by_columns(a) && !lies_by_rows(a);
}

}  // namespace

ProductTypes ProductTypes::of(const torch::Tensor& x) {
  const auto device = x.device().type();
  if (!at::autocast::is_autocast_enabled(device)) return {x.scalar_type(), x.scalar_type()};
  const at::ScalarType operand = at::autocast::get_autocast_dtype(device);
  return {operand, device == at::kCPU && operand == at::kBFloat16 ? at::kFloat : operand};
}

torch::Tensor ProductTypes::product(const torch::Tensor& a, const torch::Tensor& b) const {
  torch::Tensor y = torch::empty({a.size(0), b.size(1)}, a.options().dtype(result));
  product_into(y, a, b);
  return y;
}

void ProductTypes::product_into(torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& b, double scale) const {
  if (own_product(y, a, b, scale, /*add=*/false)) return;
  if (!widens()) {
    if (is_narrow_gradient(a, b)) y.copy_(at::mm(b.t(), a.t()).t());
    else at::mm_out(y, a, b);
    if (scale != 1) y.mul_(scale);
  } else if (!mkl_product(y, a, b, scale, 0)) {
    y.copy_(at::mm(a, b));
    if (scale != 1) y.mul_(scale);
  }
}

void ProductTypes::add_product(torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& b, double scale) const {
  if (own_product(y, a, b, scale, /*add=*/true)) return;
  if (!widens()) y.addmm_(a, b, 1, scale);
  else if (!mkl_product(y, a, b, scale, 1)) y.add_(at::mm(a, b), scale);
}

torch::Tensor ProductTypes::started(const torch::Tensor& bias, const torch::Tensor& a, int64_t columns) const {
  if (bias.defined() && a.device().is_cpu() && result == at::kFloat) return repeated(bias.to(result), a.size(0));
  torch::Tensor y = torch::empty({a.size(0), columns}, a.options().dtype(result));
  return bias.defined() ? y.copy_(bias.expand_as(y)) : y;
}

torch::Tensor ProductTypes::biased_product(const torch::Tensor& bias, const torch::Tensor& a,
                                           const torch::Tensor& b) const {
  if (!bias.defined()) return product(a, b);
  if (a.device() != at::kCPU || result != at::kFloat) return at::addmm(narrowed(bias), a, b);
  torch::Tensor y = started(bias, a, b.size(1));
  add_product(y, a, b);
  return y;
}

}  // namespace deeplora
