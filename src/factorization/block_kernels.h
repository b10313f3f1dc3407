// oneDNN's kernels for the product of two blocks. LibTorch compiles one for every shape that it meets, milliseconds for
// each, and keeps it for good: whoever calls them must come with few shapes, however many tokens a batch has.
#pragma once

#include <torch/types.h>

#include <compare>
#include <cstdint>
#include <set>

namespace deeplora {

/// What one kernel is compiled for: c [rows, columns] = a [rows, depth] b [depth, columns], or c += a b.
struct BlockShape {
  int64_t rows, columns, depth;
  int64_t a_row, b_row, c_row;  ///< elements from one row to the next
  bool add;
  bool bfloat16 = false;  ///< a and b; pairs of rows of b are interleaved then

  auto operator<=>(const BlockShape&) const = default;
};

/// c float32; false in LibTorch without these kernels.
bool has_block_kernels(at::ScalarType type);
void block_kernel(const BlockShape& shape, const float* a, const float* b, float* c);
void block_kernel(const BlockShape& shape, const at::BFloat16* a, const at::BFloat16* b, float* c);
/// Gives the processor's matrix units back; after the last kernel of a thread.
void release_block_kernels(bool bfloat16);

/// Calls visit(first, count) for pieces of [0, all): whole blocks, one multiple of `step` behind them, then powers of
/// two. So there are few sizes.
template <class Visit>
void few_sized_pieces(int64_t all, int64_t block, int64_t step, const Visit& visit) {
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

/// While it lives, the shapes that kernels are asked for, of all threads. One at a time; for tests.
class BlockShapesMet {
 public:
  BlockShapesMet();
  ~BlockShapesMet();
  BlockShapesMet(const BlockShapesMet&) = delete;
  BlockShapesMet& operator=(const BlockShapesMet&) = delete;
  const std::set<BlockShape>& shapes() const { return shapes_; }

 private:
  friend void note_block_shape(const BlockShape& shape);
  std::set<BlockShape> shapes_;
};

}  // namespace deeplora
