#include "factorization/block_products.h"

#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <vector>

#include "core/error.h"
#include "core/instruction_set.h"
#include "core/parallel.h"
#include "core/system.h"
#include "factorization/block_kernels.h"
#include "factorization/layout.h"
#include "factorization/loops/loops.h"

namespace deeplora {
namespace {

constexpr int64_t kPanel = 64;          ///< columns worked on together
constexpr int64_t kRows = 64;           ///< of a block
constexpr int64_t kDepth = 768;         ///< of a block: with kPanel and kRows, its operands fit the second cache
constexpr int64_t kSmallest = 100'000;  ///< multiplications that are worth a second thread

template <class T>
struct Task {
  int64_t rows, columns, depth;
  const T* a;
  int64_t a_row, a_slab;  ///< elements from one row to the next, and from one stretch of kDepth columns to the next
  const T* b;
  int64_t b_row, b_column;  ///< strides; one of them is 1
  float* y;
  int64_t y_row;
  bool add;
  const StoredLines* lines = nullptr;  ///< of b or, where `transposed`, of b^T; they stand for the pointer
  bool transposed = false;
};

/// The left side as rows: where it is, or, of a matrix by columns, copied in slabs of kDepth columns, one behind the
/// other. The slabs' rows have one of three lengths: rows as long as the depth, a number of tokens, would be a new
/// kernel for every batch.
template <class T>
struct Left {
  torch::Tensor room;
  const T* data;
  int64_t row, slab;
};

/// to[m to_row + k] = from[k from_row + m]
void turn(float* to, int64_t to_row, const float* from, int64_t from_row, int64_t rows, int64_t depth) {
  elementwise_loops::best().transpose(reinterpret_cast<uint32_t*>(to), to_row, reinterpret_cast<const uint32_t*>(from),
                                      from_row, depth, rows);
}
void turn(at::BFloat16* to, int64_t to_row, const at::BFloat16* from, int64_t from_row, int64_t rows, int64_t depth) {
  for (int64_t first = 0; first < rows; first += kRows)
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t m = first; m < std::min(first + kRows, rows); ++m) to[m * to_row + k] = from[k * from_row + m];
}

template <class T>
Left<T> left_of(const torch::Tensor& a) {
  if (lies_by_rows(a))
    return {{}, a.const_data_ptr<T>(), a.size(0) > 1 ? a.stride(0) : kDepth, kDepth};  // a single row has any stride
  const int64_t rows = a.size(0), depth = a.size(1);
  constexpr int64_t kApart = 16;  // rows a power of two apart would share the cache's places
  const int64_t row = (depth <= 64 ? 64 : depth <= 256 ? 256 : kDepth) + kApart, slabs = (depth + kDepth - 1) / kDepth;
  Left<T> out{torch::empty({slabs, rows, row}, a.options()), nullptr, row, rows * row};
  T* to = out.room.template mutable_data_ptr<T>();
  const T* from = a.const_data_ptr<T>();
  const int64_t parts = std::min(slabs, parallel_threads());
  parallel_parts(parts, [&](int64_t part) {
    for (int64_t slab = slabs * part / parts; slab < slabs * (part + 1) / parts; ++slab)
      turn(to + slab * rows * row, row, from + slab * kDepth * a.stride(1), a.stride(1), rows,
           std::min(kDepth, depth - slab * kDepth));
  });
  out.data = to;
  return out;
}

/// Rows first .. first + depth - 1 of a panel as the kernels read it: where it is, or in `room`; with its row stride.
std::pair<const float*, int64_t> panel_of(const Task<float>& t, int64_t column, int64_t columns, int64_t first,
                                          int64_t depth, float* room) {
  if (t.b_column == 1) return {t.b + first * t.b_row + column, t.b_row};
  elementwise_loops::best().transpose(reinterpret_cast<uint32_t*>(room), columns,
                                      reinterpret_cast<const uint32_t*>(t.b + first + column * t.b_column), t.b_column,
                                      columns, depth);
  return {room, columns};
}

/// Pairs of rows interleaved; of columns that lie side by side, a pair is one word.
std::pair<const at::BFloat16*, int64_t> panel_of(const Task<at::BFloat16>& t, int64_t column, int64_t columns,
                                                 int64_t first, int64_t depth, at::BFloat16* room) {
  const at::BFloat16* from = t.b + first * t.b_row + column * t.b_column;
  if (t.b_column == 1) {
    const auto* rows = reinterpret_cast<const uint16_t*>(from);
    for (int64_t k = 0; k < depth; k += 2)
      elementwise_loops::best().interleave(reinterpret_cast<uint16_t*>(room + k * columns), rows + k * t.b_row,
                                           rows + (k + 1) * t.b_row, columns);
  } else if (t.b_column % 2 == 0 && reinterpret_cast<uintptr_t>(from) % sizeof(uint32_t) == 0) {
    elementwise_loops::best().transpose(reinterpret_cast<uint32_t*>(room), columns,
                                        reinterpret_cast<const uint32_t*>(from), t.b_column / 2, columns, depth / 2);
  } else {
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t j = 0; j < columns; ++j) room[k / 2 * 2 * columns + 2 * j + k % 2] = from[k + j * t.b_column];
  }
  return {room, columns};
}

constexpr int64_t kPiece = 64;  ///< of a line: kPanel pieces in float32 fit the first cache

void to_words(float* to, int64_t to_row, const float* from, int64_t columns, int64_t depth) {
  elementwise_loops::best().transpose(reinterpret_cast<uint32_t*>(to), to_row, reinterpret_cast<const uint32_t*>(from),
                                      kPiece, columns, depth);
}
/// A word is a pair of rows.
void to_words(at::BFloat16* to, int64_t to_row, const float* from, int64_t columns, int64_t depth) {
  alignas(uint32_t) std::array<uint16_t, kPanel * kPiece> narrow;
  for (int64_t j = 0; j < columns; ++j)
    elementwise_loops::best().to_bfloat16(narrow.data() + j * kPiece, from + j * kPiece, depth);
  elementwise_loops::best().transpose(reinterpret_cast<uint32_t*>(to), to_row,
                                      reinterpret_cast<const uint32_t*>(narrow.data()), kPiece / 2, columns, depth / 2);
}

void rows_of_lines(const StoredLines& lines, int64_t column, int64_t columns, int64_t first, int64_t depth,
                   float* room) {
  for (int64_t k = 0; k < depth; ++k) lines.read(first + k, column, columns, room + k * columns);
}
void rows_of_lines(const StoredLines& lines, int64_t column, int64_t columns, int64_t first, int64_t depth,
                   at::BFloat16* room) {
  std::array<float, kPanel> wide;
  std::array<std::array<uint16_t, kPanel>, 2> pair;
  for (int64_t k = 0; k < depth; k += 2) {
    for (int64_t i = 0; i < 2; ++i) {
      lines.read(first + k + i, column, columns, wide.data());
      elementwise_loops::best().to_bfloat16(pair[static_cast<size_t>(i)].data(), wide.data(), columns);
    }
    elementwise_loops::best().interleave(reinterpret_cast<uint16_t*>(room + k * columns), pair[0].data(),
                                         pair[1].data(), columns);
  }
}

/// The same of numbers in a narrower type.
template <class T>
std::pair<const T*, int64_t> panel_of_lines(const Task<T>& t, int64_t column, int64_t columns, int64_t first,
                                            int64_t depth, T* room) {
  if (!t.transposed) {
    rows_of_lines(*t.lines, column, columns, first, depth, room);
    return {room, columns};
  }
  std::array<float, kPanel * kPiece> wide;
  for (int64_t start = 0; start < depth; start += kPiece) {
    const int64_t count = std::min(kPiece, depth - start);
    for (int64_t j = 0; j < columns; ++j) t.lines->read(column + j, first + start, count, wide.data() + j * kPiece);
    to_words(room + start * columns, columns, wide.data(), columns, count);
  }
  return {room, columns};
}

/// Rows [first_row, end_row) of the columns [first, end).
template <class T>
void run(const Task<T>& t, int64_t first_row, int64_t end_row, int64_t first, int64_t end) {
  constexpr bool kHalf = std::is_same_v<T, at::BFloat16>;
  thread_local std::vector<T> room;
  room.resize(kPanel * kDepth);
  for (int64_t column = first; column < end; column += kPanel) {
    const int64_t columns = std::min(kPanel, end - column);
    few_sized_pieces(t.depth, kDepth, 64, [&](int64_t start, int64_t depth) {
      const auto [panel, panel_row] = t.lines ? panel_of_lines(t, column, columns, start, depth, room.data())
                                              : panel_of(t, column, columns, start, depth, room.data());
      const T* left = t.a + start / kDepth * t.a_slab + start % kDepth;
      few_sized_pieces(end_row - first_row, kRows, kRows, [&](int64_t row, int64_t rows) {
        row += first_row;
        block_kernel({rows, columns, depth, t.a_row, panel_row, t.y_row, t.add || start > 0, kHalf},
                     left + row * t.a_row, panel, t.y + row * t.y_row + column);
      });
    });
  }
  release_block_kernels(kHalf);
}

/// All of it, shared out by panels, or by rows where there are too few of those.
template <class T>
void run(const Task<T>& t) {
  const int64_t panels = (t.columns + kPanel - 1) / kPanel, blocks = (t.rows + kRows - 1) / kRows;
  const int64_t parts =
      t.rows * t.columns * t.depth < kSmallest ? 1 : std::min(parallel_threads(), std::max(panels, blocks));
  const bool by_panels = panels >= 2 * parts || panels % parts == 0 || blocks < parts;
  parallel_parts(parts, [&](int64_t part) {
    const auto edge = [&](int64_t count, int64_t size, int64_t all, int64_t at) {
      return std::min(all, count * at / parts * size);
    };
    if (by_panels) run(t, 0, t.rows, edge(panels, kPanel, t.columns, part), edge(panels, kPanel, t.columns, part + 1));
    else run(t, edge(blocks, kRows, t.rows, part), edge(blocks, kRows, t.rows, part + 1), 0, t.columns);
  });
}

template <class T>
void run(torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& b, bool add) {
  const bool by_rows = b.stride(1) == 1;  // a single row or column has any stride
  const Left<T> left = left_of<T>(a);
  run(Task<T>{y.size(0), y.size(1), a.size(1), left.data, left.row, left.slab, b.const_data_ptr<T>(),
              by_rows ? b.stride(0) : 1, by_rows ? 1 : b.stride(1), y.mutable_data_ptr<float>(), y.stride(0), add});
}

bool can_serve(const torch::Tensor& y, const torch::Tensor& a) {
  const auto type = a.scalar_type();
  const bool kernels = has_block_kernels(type) && at::globalContext().userEnabledMkldnn() &&
                       (type == at::kFloat ? instruction_set() == InstructionSet::avx512
                                           : type == at::kBFloat16 && has_fast_bfloat16() && a.size(1) % 2 == 0);
  return kernels && y.scalar_type() == at::kFloat && y.stride(1) == 1 && lies_on_cpu(a) && y.device().is_cpu() &&
         y.numel() > 0 && a.size(1) > 0;
}

template <class T>
void run(torch::Tensor& y, const torch::Tensor& a, const StoredLines& b, bool transposed, bool add) {
  const Left<T> left = left_of<T>(a);
  run(Task<T>{y.size(0), y.size(1), a.size(1), left.data, left.row, left.slab, nullptr, 0, 0,
              y.mutable_data_ptr<float>(), y.stride(0), add, &b, transposed});
}

}  // namespace

bool block_product(torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& b, double scale, bool add) {
  if (!can_serve(y, a) || b.scalar_type() != a.scalar_type() || !lies_on_cpu(b)) return false;
  const torch::NoGradGuard no_grad;
  arranged_product(y, a, b, scale, add,
                   [](torch::Tensor& to, const torch::Tensor& left, const torch::Tensor& right, bool adds) {
                     if (left.scalar_type() == at::kFloat) run<float>(to, left, right, adds);
                     else run<at::BFloat16>(to, left, right, adds);
                   });
  return true;
}

bool lines_product(torch::Tensor& y, const torch::Tensor& a, const StoredLines& b, bool transposed, bool add) {
  check(a.size(1) == (transposed ? b.length() : b.lines()) && y.size(1) == (transposed ? b.lines() : b.length()),
        "a product with lines of another shape");
  if (!can_serve(y, a)) return false;
  const torch::NoGradGuard no_grad;
  if (a.scalar_type() == at::kFloat) run<float>(y, a, b, transposed, add);
  else run<at::BFloat16>(y, a, b, transposed, add);
  return true;
}

bool prefers_block_products() {
  static const bool prefers =
      has_block_kernels(at::kFloat) && instruction_set() == InstructionSet::avx512 && !is_made_by_intel();
  return prefers;
}

}  // namespace deeplora
