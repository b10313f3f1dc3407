// The innermost loops of attention and dropout, compiled once per instruction set and chosen when the program runs.
// Includes nothing of LibTorch or the standard library's inline functions: code compiled for a newer machine must not
// reach an older one through a shared inline function.
#pragma once

#include <cstdint>

#include "models/mix_bits.h"

namespace deeplora::attention_loops {

/// Rows of scores are filled up to whole vectors of the widest set, so that short sequences run at full width too.
inline constexpr int64_t kWidest = 16;

/// A matrix seen through two strides: element (i, j) is data[i * row + j * column].
struct Strided {
  const float* data;
  int64_t row, column;
};

struct Table {
  /// C [rows, columns] (rows ldc apart) = A [rows, depth] B [depth, columns] (rows ldb apart)
  void (*product)(float* c, int64_t ldc, Strided a, const float* b, int64_t ldb, int64_t rows, int64_t columns, int64_t depth);
  /// C += A B
  void (*add_product)(float* c, int64_t ldc, Strided a, const float* b, int64_t ldb, int64_t rows, int64_t columns, int64_t depth);
  /// s[j] becomes exp(scale s[j] - log_sum)
  void (*weights_of)(float* s, int64_t tokens, float scale, float log_sum);
  /// log sum_j exp(scale s[j]) over `tokens`, a multiple of kWidest
  float (*log_sum_of)(const float* s, int64_t tokens, float scale);
  /// mask[j] = kept or 0
  void (*mask_of)(float* mask, int64_t tokens, uint32_t seed, uint32_t threshold, float kept);
  /// a[j] *= b[j]
  void (*multiply)(float* a, const float* b, int64_t count);
  /// p[j] = p[j] (dp[j] - mean) scale, the gradient of the scores
  void (*score_gradients)(float* p, const float* dp, float mean, float scale, int64_t tokens);
  /// masked_sum() of vector_loops.h
  void (*masked_sum)(float* out, const float* x, const float* residual, int64_t first, int64_t n, uint32_t seed, uint32_t threshold, float scale);
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

}  // namespace deeplora::attention_loops
