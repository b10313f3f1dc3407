#include "models/vector_loops.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "models/loops/loops.h"

namespace deeplora {
namespace {

using attention_loops::kWidest;

int64_t padded(int64_t tokens) { return (tokens + kWidest - 1) / kWidest * kWidest; }

/// x [T, d] with a stride between rows -> x^T [d, padded T], zeros behind T
void transpose(float* out, const float* x, int64_t stride, int64_t tokens, int64_t width) {
  const int64_t row = padded(tokens);
  for (int64_t c = 0; c < width; ++c) {
    for (int64_t t = 0; t < tokens; ++t) out[c * row + t] = x[t * stride + c];
    for (int64_t t = tokens; t < row; ++t) out[c * row + t] = 0;
  }
}

/// Rows of the score matrix that are worked on together.
constexpr int64_t kRows = 16;

uint32_t row_seed(const HeadTask& task, int64_t row) {
  return mix_bits(task.seed ^ (task.first + static_cast<uint32_t>(row) * 0x9e3779b9U));
}

}  // namespace

void masked_sum(float* out, const float* x, const float* residual, int64_t first, int64_t n, uint32_t seed, uint32_t threshold, float scale) {
  attention_loops::best().masked_sum(out, x, residual, first, n, seed, threshold, scale);
}

void attend_head(const HeadTask& task, HeadView q, HeadView k, HeadView v, float* out, int64_t out_stride, float* log_sums, int64_t log_stride) {
  static const attention_loops::Table& loops = attention_loops::best();
  thread_local std::vector<float> scratch;
  const int64_t row = padded(task.tokens);
  scratch.resize(static_cast<size_t>((task.width + kRows + 1) * row));
  float *kt = scratch.data(), *p = kt + task.width * row, *mask = p + kRows * row;
  transpose(kt, k.data, k.stride, task.tokens, task.width);
  for (int64_t first = 0; first < task.tokens; first += kRows) {
    const int64_t rows = std::min(kRows, task.tokens - first);
    loops.product(p, row, {q.data + first * q.stride, q.stride, 1}, kt, row, rows, row, task.width);
    for (int64_t i = 0; i < rows; ++i) {
      float* scores = p + i * row;
      std::fill(scores + task.tokens, scores + row, -std::numeric_limits<float>::infinity());
      const float log_sum = log_sums[(first + i) * log_stride] = loops.log_sum_of(scores, row, task.scale);
      loops.weights_of(scores, row, task.scale, log_sum);
      if (task.threshold == 0) continue;
      loops.mask_of(mask, row, row_seed(task, first + i), task.threshold, task.kept);
      loops.multiply(scores, mask, row);
    }
    loops.product(out + first * out_stride, out_stride, {p, row, 1}, v.data, v.stride, rows, task.width, task.tokens);
  }
}

void attend_head_backward(const HeadTask& task, HeadView q, HeadView k, HeadView v, HeadView g, HeadView out, const float* log_sums,
                          int64_t log_stride, const HeadGradients& to) {
  static const attention_loops::Table& loops = attention_loops::best();
  thread_local std::vector<float> scratch;
  const int64_t row = padded(task.tokens), block = task.width * row;
  scratch.resize(static_cast<size_t>(4 * block + 3 * kRows * row));
  float *kt = scratch.data(), *vt = kt + block, *gk = vt + block, *gv = gk + block, *p = gv + block, *dp = p + kRows * row, *kept = dp + kRows * row;
  transpose(kt, k.data, k.stride, task.tokens, task.width);
  transpose(vt, v.data, v.stride, task.tokens, task.width);
  std::fill(gk, gk + 2 * block, 0.0F);
  for (int64_t first = 0; first < task.tokens; first += kRows) {
    const int64_t rows = std::min(kRows, task.tokens - first);
    const float *q_rows = q.data + first * q.stride, *g_rows = g.data + first * g.stride;
    loops.product(p, row, {q_rows, q.stride, 1}, kt, row, rows, row, task.width);
    loops.product(dp, row, {g_rows, g.stride, 1}, vt, row, rows, row, task.width);
    for (int64_t i = 0; i < rows; ++i) {
      float *weights = p + i * row, *dweights = dp + i * row, *mask = kept + i * row;
      const float *g_row = g_rows + i * g.stride, *out_row = out.data + (first + i) * out.stride;
      loops.weights_of(weights, row, task.scale, log_sums[(first + i) * log_stride]);
      float mean = 0;  // sum_j p_j dp_j = g . out, dropout included
      for (int64_t c = 0; c < task.width; ++c) mean += g_row[c] * out_row[c];
      if (task.threshold > 0) {
        loops.mask_of(mask, row, row_seed(task, first + i), task.threshold, task.kept);
        loops.multiply(dweights, mask, row);
        loops.multiply(mask, weights, row);
      } else {
        std::copy_n(weights, row, mask);
      }
      loops.score_gradients(weights, dweights, mean, task.scale, row);
    }
    loops.add_product(gv, task.width, {kept, 1, row}, g_rows, g.stride, task.tokens, task.width, rows);
    loops.product(to.q + first * to.stride, to.stride, {p, row, 1}, k.data, k.stride, rows, task.width, task.tokens);
    loops.add_product(gk, task.width, {p, 1, row}, q_rows, q.stride, task.tokens, task.width, rows);
  }
  for (int64_t i = 0; i < task.tokens; ++i) {
    std::copy_n(gk + i * task.width, task.width, to.k + i * to.stride);
    std::copy_n(gv + i * task.width, task.width, to.v + i * to.stride);
  }
}

}  // namespace deeplora
