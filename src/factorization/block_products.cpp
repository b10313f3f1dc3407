#include "factorization/block_products.h"

#include <torch/torch.h>
#if __has_include(<ATen/native/CPUBlas.h>)
#include <ATen/native/CPUBlas.h>
#endif

#include <algorithm>
#include <vector>

#include "core/instruction_set.h"
#include "core/parallel.h"
#include "core/system.h"
#include "factorization/layout.h"
#include "factorization/loops/loops.h"

namespace deeplora {

// The macros say that LibTorch has the kernels.
#if defined(CPUBLAS_BRGEMM_F32F32F32) && defined(CPUBLAS_BRGEMM_BF16BF16F32)

namespace {

constexpr int64_t kPanel = 64;       ///< columns worked on together
constexpr int64_t kRows = 64;        ///< of a block
constexpr int64_t kDepth = 768;      ///< of a block: with kPanel and kRows, its operands fit the second cache
constexpr int64_t kSmallest = 100'000;  ///< multiplications that are worth a second thread

template <class T>
struct Task {
  int64_t rows, columns, depth;
  const T* a;
  int64_t a_row;
  const T* b;
  int64_t b_row, b_column;  ///< strides; one of them is 1
  float* y;
  int64_t y_row;
  bool add;
};

/// Calls visit(first, count) for pieces of [0, all): whole blocks, multiples of `step` behind them, then powers of two. oneDNN compiles a kernel for
/// every size that it meets, so there must not be as many sizes as there are numbers of tokens.
template <class Visit>
void pieces(int64_t all, int64_t block, int64_t step, const Visit& visit) {
  int64_t first = 0;
  const auto take = [&](int64_t count) {
    visit(first, count);
    first += count;
  };
  while (all - first >= block) take(block);
  if (all - first >= step) take((all - first) / step * step);
  for (int64_t count = step / 2; count > 0; count /= 2)
    if (all - first >= count) take(count);
}

void multiply(const Task<float>& t, int64_t rows, int64_t columns, int64_t depth, const float* a, const float* b, int64_t b_row, float* y, bool add) {
  at::native::cpublas::brgemm(rows, columns, depth, t.a_row, b_row, t.y_row, add, a, b, y, /*is_vnni=*/false);
}
void multiply(const Task<at::BFloat16>& t, int64_t rows, int64_t columns, int64_t depth, const at::BFloat16* a, const at::BFloat16* b, int64_t b_row,
              float* y, bool add) {
  at::native::cpublas::brgemm(rows, columns, depth, t.a_row, b_row, t.y_row, add, a, b, y, /*is_vnni=*/true);
}

/// Rows first .. first + depth - 1 of a panel as the kernels read it: where it is, or in `room`; with its row stride.
std::pair<const float*, int64_t> panel_of(const Task<float>& t, int64_t column, int64_t columns, int64_t first, int64_t depth, float* room) {
  if (t.b_column == 1) return {t.b + first * t.b_row + column, t.b_row};
  elementwise_loops::best().transpose(reinterpret_cast<uint32_t*>(room), columns, reinterpret_cast<const uint32_t*>(t.b + first + column * t.b_column),
                                      t.b_column, columns, depth);
  return {room, columns};
}

/// Pairs of rows interleaved; of columns that lie side by side, a pair is one word.
std::pair<const at::BFloat16*, int64_t> panel_of(const Task<at::BFloat16>& t, int64_t column, int64_t columns, int64_t first, int64_t depth,
                                                 at::BFloat16* room) {
  const at::BFloat16* from = t.b + first * t.b_row + column * t.b_column;
  if (t.b_column == 1) {
    const auto* rows = reinterpret_cast<const uint16_t*>(from);
    for (int64_t k = 0; k < depth; k += 2)
      elementwise_loops::best().interleave(reinterpret_cast<uint16_t*>(room + k * columns), rows + k * t.b_row, rows + (k + 1) * t.b_row, columns);
  } else if (t.b_column % 2 == 0 && reinterpret_cast<uintptr_t>(from) % sizeof(uint32_t) == 0) {
    elementwise_loops::best().transpose(reinterpret_cast<uint32_t*>(room), columns, reinterpret_cast<const uint32_t*>(from), t.b_column / 2, columns,
                                        depth / 2);
  } else {
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t j = 0; j < columns; ++j) room[k / 2 * 2 * columns + 2 * j + k % 2] = from[k + j * t.b_column];
  }
  return {room, columns};
}

/// Rows [first_row, end_row) of the columns [first, end).
template <class T>
void run(const Task<T>& t, int64_t first_row, int64_t end_row, int64_t first, int64_t end) {
  thread_local std::vector<T> room;
  room.resize(kPanel * kDepth);
  for (int64_t column = first; column < end; column += kPanel) {
    const int64_t columns = std::min(kPanel, end - column);
    pieces(t.depth, kDepth, 64, [&](int64_t start, int64_t depth) {
      const auto [panel, panel_row] = panel_of(t, column, columns, start, depth, room.data());
      pieces(end_row - first_row, kRows, kRows, [&](int64_t row, int64_t rows) {
        row += first_row;
        multiply(t, rows, columns, depth, t.a + row * t.a_row + start, panel, panel_row, t.y + row * t.y_row + column, t.add || start > 0);
      });
    });
  }
  at::native::cpublas::brgemm_release(std::is_same_v<T, at::BFloat16>);
}

/// All of it, shared out by panels, or by rows where there are too few of those.
template <class T>
void run(const Task<T>& t) {
  const int64_t panels = (t.columns + kPanel - 1) / kPanel, blocks = (t.rows + kRows - 1) / kRows;
  const int64_t parts = t.rows * t.columns * t.depth < kSmallest ? 1 : std::min(parallel_threads(), std::max(panels, blocks));
  const bool by_panels = panels >= 2 * parts || panels % parts == 0 || blocks < parts;
  parallel_parts(parts, [&](int64_t part) {
    const auto edge = [&](int64_t count, int64_t size, int64_t all, int64_t at) { return std::min(all, count * at / parts * size); };
    if (by_panels) run(t, 0, t.rows, edge(panels, kPanel, t.columns, part), edge(panels, kPanel, t.columns, part + 1));
    else run(t, edge(blocks, kRows, t.rows, part), edge(blocks, kRows, t.rows, part + 1), 0, t.columns);
  });
}

template <class T>
void run(torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& b, bool add) {
  const bool by_rows = b.stride(1) == 1;  // a single row or column has any stride
  run(Task<T>{y.size(0), y.size(1), a.size(1), a.const_data_ptr<T>(), a.stride(0), b.const_data_ptr<T>(), by_rows ? b.stride(0) : 1,
              by_rows ? 1 : b.stride(1), y.mutable_data_ptr<float>(), y.stride(0), add});
}

bool can_serve(const torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& b) {
  const auto type = a.scalar_type();
  const bool kernels = at::globalContext().userEnabledMkldnn() &&
                       (type == at::kFloat ? instruction_set() == InstructionSet::avx512
                                           : type == at::kBFloat16 && prefers_block_products() && has_fast_bfloat16() && a.size(1) % 2 == 0);
  return kernels && y.scalar_type() == at::kFloat && b.scalar_type() == type && y.stride(1) == 1 && lies_on_cpu(a) && lies_on_cpu(b) && y.device().is_cpu() &&
         y.numel() > 0 && a.size(1) > 0;
}

}  // namespace

bool block_product(torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& b, double scale, bool add) {
  if (!can_serve(y, a, b)) return false;
  const torch::NoGradGuard no_grad;
  arranged_product(y, a, b, scale, add, [](torch::Tensor& to, const torch::Tensor& left, const torch::Tensor& right, bool adds) {
    const torch::Tensor rows = lies_by_rows(left) ? left : left.contiguous();
    if (rows.scalar_type() == at::kFloat) run<float>(to, rows, right, adds);
    else run<at::BFloat16>(to, rows, right, adds);
  });
  return true;
}

bool prefers_block_products() {
  static const bool prefers = instruction_set() == InstructionSet::avx512 && !is_made_by_intel();
  return prefers;
}

#else

bool block_product(torch::Tensor&, const torch::Tensor&, const torch::Tensor&, double, bool) { return false; }
bool prefers_block_products() { return false; }

#endif

}  // namespace deeplora
