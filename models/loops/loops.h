// The innermost loops of attention, dropout and layer norms, compiled once per instruction set and chosen when the
// program runs. Includes nothing of LibTorch or the standard library's inline functions: code compiled for a newer
// machine must not reach an older one through a shared inline function.
#pragma once

#include <cstdint>

#include "core/fast_exp.h"
#include "factorization/loops/loops.h"
#include "models/loop_tasks.h"
#include "models/mix_bits.h"

namespace deeplora::attention_loops {

/// Rows of scores are filled up to whole vectors of the widest set, so that short sequences run at full width too.
inline constexpr int64_t kWidest = 16;
/// Rows of the score matrix that are worked on together.
inline constexpr int64_t kRows = 16;

struct Table {
  /// attend_head() and attend_head_backward() of vector_loops.h, with room for attend_scratch() and
  /// attend_backward_scratch() floats.
  void (*attend)(const HeadTask& task, HeadView q, HeadView k, HeadView v, float* out, int64_t out_stride,
                 float* log_sums, int64_t log_stride, float* scratch);
  void (*attend_backward)(const HeadTask& task, HeadView q, HeadView k, HeadView v, HeadView g, HeadView out,
                          const float* log_sums, int64_t log_stride, const HeadGradients& to, float* scratch);
  /// Those of vector_loops.h.
  void (*masked_sum)(float* out, const float* x, const float* residual, int64_t first, int64_t n, uint32_t seed,
                     uint32_t threshold, float scale);
  void (*norm_rows)(const NormTask& task, float* out, float* sums, float* stats, const float* x, const float* residual);
  void (*norm_rows_backward)(const NormTask& task, float* gx, float* gr, const float* g, const float* sums,
                             const float* stats);
  void (*rms_rows)(float* out, float* inverse, const float* x, const float* weight, int64_t rows, int64_t width,
                   float eps);
  void (*rms_rows_backward)(float* gx, const float* g, const float* x, const float* inverse, const float* weight,
                            int64_t rows, int64_t width);
  void (*rotate_rows)(const RotationTask& task, float* out, int64_t out_stride, RowsView x);
  float (*token_loss)(float* scores, int64_t label, int64_t count, bool gradient);
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
