// How matrices lie in memory, and how a product is arranged for loops that read its left side by rows.
#pragma once

#include <torch/torch.h>

namespace deeplora {

/// Sides of a product up to this are narrow: a rank, not a width.
inline constexpr int64_t kNarrow = 32;

/// Whether the elements of a row lie side by side; rows may be any distance apart.
inline bool lies_by_rows(const torch::Tensor& x) { return x.stride(1) == 1 && x.stride(0) >= x.size(1); }
inline bool lies_by_columns(const torch::Tensor& x) { return x.stride(0) == 1 && x.stride(1) >= x.size(0); }
inline bool lies_on_cpu(const torch::Tensor& x) {
  return x.device().is_cpu() && (lies_by_rows(x) || lies_by_columns(x));
}

/// y [M, N] = scale a b, or y += scale a b, by run(y, a, b, add) of matrices without a scale, which the smaller operand
/// takes. Where a lies by columns and has more rows than b has columns, y^T = b^T a^T is computed instead and turned, y
/// being the smaller one then.
template <class Run>
void arranged_product(torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& b, double scale, bool add,
                      const Run& run) {
  torch::Tensor left = a, right = b;
  if (scale != 1) {
    torch::Tensor& smaller = a.numel() < b.numel() ? left : right;
    smaller = smaller.mul(scale);
  }
  if (lies_by_rows(left) || left.size(0) <= right.size(1)) return run(y, left, right, add);
  torch::Tensor turned = torch::empty({y.size(1), y.size(0)}, y.options());
  run(turned, right.t(), left.t(), false);
  if (add) y.add_(turned.t());
  else y.copy_(turned.t());
}

}  // namespace deeplora
