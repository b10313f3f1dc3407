// Small products, transposition, rounding to bfloat16 and activation functions, compiled once per instruction set and
// chosen when the program runs. Includes nothing of LibTorch or the standard library's inline functions: code compiled
// for a newer machine must not reach an older one through a shared inline function.
#pragma once

#include <cstdint>

#include "core/fast_exp.h"

namespace deeplora::elementwise_loops {

/// One activation function.
struct Function {
  /// out[i] = f(x[i])
  void (*to_float32)(float* out, const float* x, int64_t count);
  /// The same, rounded to bfloat16.
  void (*to_bfloat16)(uint16_t* out, const float* x, int64_t count);
  /// g[i] *= f'(x[i])
  void (*times_derivative)(float* g, const float* x, int64_t count);
};

/// One gate: f(gate) up.
struct Gate {
  /// out[i] = f(gate[i]) up[i]
  void (*to_float32)(float* out, const float* gate, const float* up, int64_t count);
  /// Gradients of gate and up from that of the output, g.
  void (*backward)(float* to_gate, float* to_up, const float* g, const float* gate, const float* up, int64_t count);
};

/// c [rows, columns] = or += a [rows, depth] b [depth, columns], rows of b and c `b_row` and `c_row` apart, a read
/// through both of its strides.
struct ProductTask {
  int64_t rows, columns, depth;
  float* c;
  int64_t c_row;
  const float* a;
  int64_t a_row, a_column;
  const float* b;
  int64_t b_row;
  bool add;
};

/// sums[r * kMost + l] += a_r . w_l for a few rows of both, over `count` numbers.
struct DotTask {
  static constexpr int64_t kMost = 4;  ///< rows of either side
  int64_t rows, lines, count;
  const float* a;
  int64_t a_row;
  const float* w[kMost];
  float* sums;
};

struct Table {
  /// Every element is one sum over depth from first to last, so the bits do not depend on how a product is cut into
  /// tasks.
  void (*product)(const ProductTask& task);
  /// out [words, rows] (rows `out_row` apart) = in [rows, words]^T (rows `in_row` apart).
  void (*transpose)(uint32_t* out, int64_t out_row, const uint32_t* in, int64_t in_row, int64_t rows, int64_t words);
  /// out[2 i] = even[i], out[2 i + 1] = odd[i]
  void (*interleave)(uint16_t* out, const uint16_t* even, const uint16_t* odd, int64_t count);
  /// out[i] = x[i] as bfloat16, to nearest and ties to even; NaN stays NaN.
  void (*to_bfloat16)(uint16_t* out, const float* x, int64_t count);
  /// out[i] = x[i] in float32
  void (*from_bfloat16)(float* out, const uint16_t* x, int64_t count);
  /// The same for float16, subnormal numbers, infinities and NaN included.
  void (*from_float16)(float* out, const uint16_t* x, int64_t count);
  /// Every sum is the same whatever other rows and lines are in the task.
  void (*dots)(const DotTask& task);
  /// out[i] = x[i] steps, to the nearest whole number of -127 ... 127, ties to even.
  void (*to_int8)(int8_t* out, const float* x, float steps, int64_t count);
  /// out[i] = x[i] largest / 127
  void (*from_int8)(float* out, const int8_t* x, float largest, int64_t count);
  /// out[i]: how many of the 15 rising numbers `middles` lie below x[i] scale.
  void (*to_nf4)(uint8_t* out, const float* x, const float* middles, float scale, int64_t count);
  /// out[i] = book[code i] scale; two codes are in a byte, the first one in its upper half, or, where the first byte
  /// gives its `second` alone, one number later.
  void (*from_nf4)(float* out, const uint8_t* codes, bool second, const float* book, float scale, int64_t count);
  Function gelu;       ///< x Phi(x)
  Function gelu_tanh;  ///< its approximation by tanh, as GPT-2 has it
  Gate silu_gate, gelu_gate, gelu_tanh_gate;
};

/// For the processor at hand.
const Table& best();

namespace portable {
const Table& table();
}
namespace avx2 {
const Table& table();
}
namespace avx512 {
const Table& table();
}

}  // namespace deeplora::elementwise_loops
