#include "models/vector_loops.h"

#include <cstddef>
#include <vector>

#include "models/loops/loops.h"

namespace deeplora {
namespace {

const attention_loops::Table& loops() {
  static const attention_loops::Table& chosen = attention_loops::best();
  return chosen;
}

/// Room that stays with the thread.
float* scratch(int64_t floats) {
  thread_local std::vector<float> room;
  if (room.size() < static_cast<std::size_t>(floats)) room.resize(static_cast<std::size_t>(floats));
  return room.data();
}

int64_t padded(int64_t tokens) {
  return (tokens + attention_loops::kWidest - 1) / attention_loops::kWidest * attention_loops::kWidest;
}

}  // namespace

void masked_sum(float* out, const float* x, const float* residual, int64_t first, int64_t n, uint32_t seed,
                uint32_t threshold, float scale) {
  loops().masked_sum(out, x, residual, first, n, seed, threshold, scale);
}

void attend_head(const HeadTask& task, HeadView q, HeadView k, HeadView v, float* out, int64_t out_stride,
                 float* log_sums, int64_t log_stride) {
  float* room = scratch((task.width + attention_loops::kRows + 1) * padded(task.tokens));
  loops().attend(task, q, k, v, out, out_stride, log_sums, log_stride, room);
}

void attend_head_backward(const HeadTask& task, HeadView q, HeadView k, HeadView v, HeadView g, HeadView out,
                          const float* log_sums, int64_t log_stride, const HeadGradients& to) {
  float* room = scratch((2 * task.width + 3 * attention_loops::kRows) * padded(task.tokens));
  loops().attend_backward(task, q, k, v, g, out, log_sums, log_stride, to, room);
}

void norm_rows(const NormTask& task, float* out, float* sums, float* stats, const float* x, const float* residual) {
  loops().norm_rows(task, out, sums, stats, x, residual);
}

void norm_rows_backward(const NormTask& task, float* gx, float* gr, const float* g, const float* sums,
                        const float* stats) {
  loops().norm_rows_backward(task, gx, gr, g, sums, stats);
}

void rms_rows(float* out, float* inverse, const float* x, const float* weight, int64_t rows, int64_t width, float eps) {
  loops().rms_rows(out, inverse, x, weight, rows, width, eps);
}

void rms_rows_backward(float* gx, const float* g, const float* x, const float* inverse, const float* weight,
                       int64_t rows, int64_t width) {
  loops().rms_rows_backward(gx, g, x, inverse, weight, rows, width);
}

void rotate_rows(const RotationTask& task, float* out, int64_t out_stride, RowsView x) {
  loops().rotate_rows(task, out, out_stride, x);
}

float token_loss(float* scores, int64_t label, int64_t count, bool gradient) {
  return loops().token_loss(scores, label, count, gradient);
}

}  // namespace deeplora
