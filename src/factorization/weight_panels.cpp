#include "factorization/weight_panels.h"

#include <torch/torch.h>

#include <algorithm>

#include "core/error.h"
#include "core/parallel.h"
#include "core/system.h"
#include "factorization/block_kernels.h"

namespace deeplora {

namespace {

/// Columns of a panel; 0 where none fits.
int64_t panel_columns(int64_t columns) {
  for (const int64_t width : {64, 32})
    if (columns % width == 0) return width;
  return 0;
}

/// The matrix [K, M] as panels. By hand: LibTorch's own packing serves matrix units (AMX) only, its kernels every
/// processor with products of bfloat16.
torch::Tensor packed(const torch::Tensor& matrix) {
  const int64_t rows = matrix.size(0), columns = matrix.size(1), width = panel_columns(columns);
  return matrix.reshape({rows / 2, 2, columns / width, width}).permute({2, 0, 3, 1}).contiguous();
}

constexpr int64_t kRows = 32;  ///< of a block

}  // namespace

bool WeightPanels::fit(int64_t m, int64_t n, torch::Device device) {
  const bool kernels =
      has_block_kernels(at::kBFloat16) && has_fast_bfloat16() && at::globalContext().userEnabledMkldnn();
  return kernels && device.is_cpu() && panel_columns(m) > 0 && panel_columns(n) > 0;
}

WeightPanels WeightPanels::of(const torch::Tensor& weight) {
  if (weight.dim() != 2 || !fit(weight.size(0), weight.size(1), weight.device())) return {};
  const torch::NoGradGuard no_grad;
  const torch::Tensor rounded = weight.detach().to(at::kBFloat16);
  return {packed(rounded.t()), packed(rounded)};
}

torch::Tensor panel_product(const torch::Tensor& a, const torch::Tensor& panels, const torch::Tensor& bias) {
  const int64_t rows = a.size(0), depth = a.size(1), width = panels.size(2), columns = panels.size(0) * width;
  check(panels.size(1) * 2 == depth, "a product with panels of another shape");
  const torch::Tensor side_by_side = a.contiguous();
  torch::Tensor out = torch::empty({rows, columns}, a.options().dtype(at::kFloat));
  const torch::Tensor shift = bias.defined() ? bias.to(at::kFloat).contiguous() : bias;
  const float* from = shift.defined() ? shift.const_data_ptr<float>() : nullptr;
  const auto *left = side_by_side.const_data_ptr<at::BFloat16>(), *right = panels.const_data_ptr<at::BFloat16>();
  float* to = out.mutable_data_ptr<float>();
  const int64_t down = (rows + kRows - 1) / kRows, parts = parallel_threads(), all = down * panels.size(0);
  parallel_parts(parts, [&](int64_t part) {
    // One panel after the other: it stays in the cache while all rows pass.
    for (int64_t block = all * part / parts; block < all * (part + 1) / parts; ++block) {
      const int64_t panel = block / down, row = block % down * kRows, count = std::min(kRows, rows - row);
      float* corner = to + row * columns + panel * width;
      if (from)
        for (int64_t i = 0; i < count; ++i) std::copy_n(from + panel * width, width, corner + i * columns);
      few_sized_pieces(count, kRows, kRows, [&](int64_t first, int64_t some) {
        block_kernel({some, width, depth, depth, width, columns, from != nullptr, /*bfloat16=*/true},
                     left + (row + first) * depth, right + panel * depth * width, corner + first * columns);
      });
    }
    release_block_kernels(/*bfloat16=*/true);
  });
  return out;
}

}  // namespace deeplora
