#include "models/vector_loops.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

// Every function for AVX-512, AVX2 and any x86-64; the processor chooses when the program starts. Sanitizers cannot follow that.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// By what the processor can do, not by its name: a name would leave every newer processor with the slowest one.
#if __GNUC__ >= 12
#define DEEPLORA_VECTOR_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DEEPLORA_VECTOR_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#else
#define DEEPLORA_VECTOR_CLONES
#endif
#define DEEPLORA_INLINE inline __attribute__((always_inline))

namespace deeplora {
namespace {

/// exp(x) for x <= 0 to 2 units in the last place: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes); vectorises, unlike std::exp.
DEEPLORA_INLINE float fast_exp(float x) {
  x = x < -87.0F ? -87.0F : x;  // NaN stays NaN
  const float n = __builtin_floorf(x * 1.44269504F + 0.5F);
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float y = 1.9875691500e-4F;
  y = y * r + 1.3981999507e-3F;
  y = y * r + 8.3334519073e-3F;
  y = y * r + 4.1665795894e-2F;
  y = y * r + 1.6666665459e-1F;
  y = y * r + 5.0000001201e-1F;
  y = y * r * r + r + 1.0F;
  return y * __builtin_bit_cast(float, (static_cast<int32_t>(n) + 127) << 23);
}

/// Rows of scores are filled up to whole vectors, so that short sequences run at full width too.
constexpr int64_t kLanes = 16;
int64_t padded(int64_t tokens) { return (tokens + kLanes - 1) / kLanes * kLanes; }

/// x [T, d] with a stride between rows -> x^T [d, padded T], zeros behind T
void transpose(float* out, const float* x, int64_t stride, int64_t tokens, int64_t width) {
  const int64_t row = padded(tokens);
  for (int64_t c = 0; c < width; ++c) {
    for (int64_t t = 0; t < tokens; ++t) out[c * row + t] = x[t * stride + c];
    for (int64_t t = tokens; t < row; ++t) out[c * row + t] = 0;
  }
}

/// out[j] = sum_c a[c] b^T[c][j]
DEEPLORA_VECTOR_CLONES void row_products(float* __restrict out, const float* __restrict a, const float* __restrict bt, int64_t tokens,
                                         int64_t width) {
  for (int64_t j = 0; j < tokens; ++j) out[j] = 0;
  int64_t c = 0;
  for (; c + 4 <= width; c += 4) {
    const float a0 = a[c], a1 = a[c + 1], a2 = a[c + 2], a3 = a[c + 3];
    const float *b0 = bt + c * tokens, *b1 = b0 + tokens, *b2 = b1 + tokens, *b3 = b2 + tokens;
    for (int64_t j = 0; j < tokens; ++j) out[j] += a0 * b0[j] + a1 * b1[j] + a2 * b2[j] + a3 * b3[j];
  }
  for (; c < width; ++c)
    for (int64_t j = 0; j < tokens; ++j) out[j] += a[c] * bt[c * tokens + j];
}

/// s[j] becomes exp(scale s[j] - log_sum)
DEEPLORA_VECTOR_CLONES void weights_of(float* s, int64_t tokens, float scale, float log_sum) {
  for (int64_t j = 0; j < tokens; ++j) s[j] = fast_exp(s[j] * scale - log_sum);
}

/// log sum_j exp(scale s[j]) over `tokens` whole vectors
DEEPLORA_VECTOR_CLONES float log_sum_of(const float* s, int64_t tokens, float scale) {
  float lanes[kLanes], largest = s[0];
  for (int64_t l = 0; l < kLanes; ++l) lanes[l] = s[l];
  for (int64_t j = kLanes; j < tokens; j += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] = s[j + l] > lanes[l] ? s[j + l] : lanes[l];
  for (int64_t l = 0; l < kLanes; ++l) largest = lanes[l] > largest ? lanes[l] : largest;
  largest *= scale;
  for (int64_t l = 0; l < kLanes; ++l) lanes[l] = 0;
  for (int64_t j = 0; j < tokens; j += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] += fast_exp(s[j + l] * scale - largest);
  float sum = 0;
  for (int64_t l = 0; l < kLanes; ++l) sum += lanes[l];
  return largest + std::log(sum);
}

/// mask[j] = kept or 0
DEEPLORA_VECTOR_CLONES void mask_of(float* mask, int64_t tokens, uint32_t seed, uint32_t threshold, float kept) {
  const auto count = static_cast<uint32_t>(tokens);
  for (uint32_t j = 0; j < count; ++j) mask[j] = mix_bits(j ^ seed) >= threshold ? kept : 0.0F;
}

DEEPLORA_VECTOR_CLONES void multiply(float* a, const float* b, int64_t count) {
  for (int64_t j = 0; j < count; ++j) a[j] *= b[j];
}

/// out[c] = sum_j p[j] x[j][c] for x [T, d] with a stride
DEEPLORA_VECTOR_CLONES void weighted_rows(float* __restrict out, const float* __restrict p, const float* __restrict x, int64_t stride,
                                          int64_t tokens, int64_t width) {
  for (int64_t c = 0; c < width; ++c) out[c] = 0;
  for (int64_t j = 0; j < tokens; ++j) {
    const float weight = p[j];
    const float* row = x + j * stride;
    for (int64_t c = 0; c < width; ++c) out[c] += weight * row[c];
  }
}

/// out[j][c] += p[j] row[c] for out [T, d] contiguous
DEEPLORA_VECTOR_CLONES void add_outer(float* __restrict out, const float* __restrict p, const float* __restrict row, int64_t tokens,
                                      int64_t width) {
  for (int64_t j = 0; j < tokens; ++j) {
    const float weight = p[j];
    for (int64_t c = 0; c < width; ++c) out[j * width + c] += weight * row[c];
  }
}

/// p[j] = p[j] (dp[j] - mean) scale, the gradient of the scores
DEEPLORA_VECTOR_CLONES void score_gradients(float* p, const float* dp, float mean, float scale, int64_t tokens) {
  for (int64_t j = 0; j < tokens; ++j) p[j] *= (dp[j] - mean) * scale;
}

uint32_t row_seed(const HeadTask& task, int64_t row) {
  return mix_bits(task.seed ^ (task.first + static_cast<uint32_t>(row) * 0x9e3779b9U));
}

}  // namespace

DEEPLORA_VECTOR_CLONES void masked_sum(float* out, const float* x, const float* residual, int64_t first, int64_t n, uint32_t seed,
                                       uint32_t threshold, float scale) {
  const auto start = static_cast<uint32_t>(first), count = static_cast<uint32_t>(n);
  if (residual) {
    for (uint32_t i = 0; i < count; ++i) out[i] = residual[i] + (mix_bits((start + i) ^ seed) >= threshold ? x[i] * scale : 0.0F);
  } else {
    for (uint32_t i = 0; i < count; ++i) out[i] = mix_bits((start + i) ^ seed) >= threshold ? x[i] * scale : 0.0F;
  }
}

void attend_head(const HeadTask& task, HeadView q, HeadView k, HeadView v, float* out, int64_t out_stride, float* log_sums, int64_t log_stride) {
  thread_local std::vector<float> scratch;
  const int64_t row = padded(task.tokens);
  scratch.resize(static_cast<size_t>((task.width + 2) * row));
  float *kt = scratch.data(), *p = kt + task.width * row, *mask = p + row;
  transpose(kt, k.data, k.stride, task.tokens, task.width);
  for (int64_t i = 0; i < task.tokens; ++i) {
    row_products(p, q.data + i * q.stride, kt, row, task.width);
    std::fill(p + task.tokens, p + row, -std::numeric_limits<float>::infinity());
    const float log_sum = log_sum_of(p, row, task.scale);
    weights_of(p, row, task.scale, log_sum);
    if (task.threshold > 0) {
      mask_of(mask, row, row_seed(task, i), task.threshold, task.kept);
      multiply(p, mask, row);
    }
    weighted_rows(out + i * out_stride, p, v.data, v.stride, task.tokens, task.width);
    log_sums[i * log_stride] = log_sum;
  }
}

void attend_head_backward(const HeadTask& task, HeadView q, HeadView k, HeadView v, HeadView g, HeadView out, const float* log_sums,
                          int64_t log_stride, const HeadGradients& to) {
  thread_local std::vector<float> scratch;
  const int64_t row = padded(task.tokens), block = task.width * row;
  scratch.resize(static_cast<size_t>(4 * block + 3 * row));
  float *kt = scratch.data(), *vt = kt + block, *gk = vt + block, *gv = gk + block, *p = gv + block, *dp = p + row, *mask = dp + row;
  transpose(kt, k.data, k.stride, task.tokens, task.width);
  transpose(vt, v.data, v.stride, task.tokens, task.width);
  std::fill(gk, gk + 2 * block, 0.0F);
  for (int64_t i = 0; i < task.tokens; ++i) {
    const float *q_row = q.data + i * q.stride, *g_row = g.data + i * g.stride, *out_row = out.data + i * out.stride;
    row_products(p, q_row, kt, row, task.width);
    weights_of(p, row, task.scale, log_sums[i * log_stride]);
    row_products(dp, g_row, vt, row, task.width);
    float mean = 0;  // sum_j p_j dp_j = g . out, dropout included
    for (int64_t c = 0; c < task.width; ++c) mean += g_row[c] * out_row[c];
    if (task.threshold > 0) {
      mask_of(mask, row, row_seed(task, i), task.threshold, task.kept);
      multiply(dp, mask, row);
      multiply(mask, p, row);
    }
    add_outer(gv, task.threshold > 0 ? mask : p, g_row, task.tokens, task.width);
    score_gradients(p, dp, mean, task.scale, row);
    weighted_rows(to.q + i * to.stride, p, k.data, k.stride, task.tokens, task.width);
    add_outer(gk, p, q_row, task.tokens, task.width);
  }
  for (int64_t i = 0; i < task.tokens; ++i) {
    std::copy_n(gk + i * task.width, task.width, to.k + i * to.stride);
    std::copy_n(gv + i * task.width, task.width, to.v + i * to.stride);
  }
}

}  // namespace deeplora
