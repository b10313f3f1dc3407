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

/// One vector of the widest set; GCC splits it where the processor has shorter ones.
using Vector = float __attribute__((vector_size(64), aligned(4)));

/// A matrix seen through two strides: element (i, j) is data[i * row + j * column].
struct Strided {
  const float* data;
  int64_t row, column;
};

/// C [M, 16 V] (rows ldc apart) = or += A [M, K] B [K, 16 V] (rows ldb apart), held in registers over K.
template <int M, int V, bool Add>
DEEPLORA_INLINE void product_tile(float* c, int64_t ldc, Strided a, const float* b, int64_t ldb, int64_t depth) {
  Vector sum[M][V] = {};
  for (int64_t k = 0; k < depth; ++k)
    for (int v = 0; v < V; ++v) {
      const Vector right = *reinterpret_cast<const Vector*>(b + k * ldb + v * kLanes);
      for (int m = 0; m < M; ++m) sum[m][v] += a.data[m * a.row + k * a.column] * right;
    }
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < V; ++v) {
      auto* out = reinterpret_cast<Vector*>(c + m * ldc + v * kLanes);
      *out = Add ? *out + sum[m][v] : sum[m][v];
    }
}

/// The columns that fill no whole vector.
template <bool Add>
DEEPLORA_INLINE void product_rest(float* c, int64_t ldc, Strided a, const float* b, int64_t ldb, int64_t rows, int64_t columns, int64_t depth) {
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t j = 0; j < columns; ++j) {
      float sum = Add ? c[m * ldc + j] : 0.0F;
      for (int64_t k = 0; k < depth; ++k) sum += a.data[m * a.row + k * a.column] * b[k * ldb + j];
      c[m * ldc + j] = sum;
    }
}

template <int M, bool Add>
DEEPLORA_INLINE void product_rows(float* c, int64_t ldc, Strided a, const float* b, int64_t ldb, int64_t columns, int64_t depth) {
  int64_t j = 0;
  for (; j + 2 * kLanes <= columns; j += 2 * kLanes) product_tile<M, 2, Add>(c + j, ldc, a, b + j, ldb, depth);
  if (j + kLanes <= columns) product_tile<M, 1, Add>(c + j, ldc, a, b + j, ldb, depth), j += kLanes;
  if (j < columns) product_rest<Add>(c + j, ldc, a, b + j, ldb, M, columns - j, depth);
}

/// C [rows, columns] = or += A [rows, depth] B [depth, columns]
template <bool Add>
DEEPLORA_INLINE void product_of(float* c, int64_t ldc, Strided a, const float* b, int64_t ldb, int64_t rows, int64_t columns, int64_t depth) {
  int64_t m = 0;
  const auto from = [&](int64_t row) { return Strided{a.data + row * a.row, a.row, a.column}; };
  for (; m + 8 <= rows; m += 8) product_rows<8, Add>(c + m * ldc, ldc, from(m), b, ldb, columns, depth);
  for (; m + 2 <= rows; m += 2) product_rows<2, Add>(c + m * ldc, ldc, from(m), b, ldb, columns, depth);
  if (m < rows) product_rows<1, Add>(c + m * ldc, ldc, from(m), b, ldb, columns, depth);
}

DEEPLORA_VECTOR_CLONES void product(float* c, int64_t ldc, Strided a, const float* b, int64_t ldb, int64_t rows, int64_t columns,
                                    int64_t depth) {
  product_of<false>(c, ldc, a, b, ldb, rows, columns, depth);
}

DEEPLORA_VECTOR_CLONES void add_product(float* c, int64_t ldc, Strided a, const float* b, int64_t ldb, int64_t rows, int64_t columns,
                                        int64_t depth) {
  product_of<true>(c, ldc, a, b, ldb, rows, columns, depth);
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

/// p[j] = p[j] (dp[j] - mean) scale, the gradient of the scores
DEEPLORA_VECTOR_CLONES void score_gradients(float* p, const float* dp, float mean, float scale, int64_t tokens) {
  for (int64_t j = 0; j < tokens; ++j) p[j] *= (dp[j] - mean) * scale;
}

/// Rows of the score matrix that are worked on together.
constexpr int64_t kRows = 16;

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
  scratch.resize(static_cast<size_t>((task.width + kRows + 1) * row));
  float *kt = scratch.data(), *p = kt + task.width * row, *mask = p + kRows * row;
  transpose(kt, k.data, k.stride, task.tokens, task.width);
  for (int64_t first = 0; first < task.tokens; first += kRows) {
    const int64_t rows = std::min(kRows, task.tokens - first);
    product(p, row, {q.data + first * q.stride, q.stride, 1}, kt, row, rows, row, task.width);
    for (int64_t i = 0; i < rows; ++i) {
      float* scores = p + i * row;
      std::fill(scores + task.tokens, scores + row, -std::numeric_limits<float>::infinity());
      const float log_sum = log_sums[(first + i) * log_stride] = log_sum_of(scores, row, task.scale);
      weights_of(scores, row, task.scale, log_sum);
      if (task.threshold == 0) continue;
      mask_of(mask, row, row_seed(task, first + i), task.threshold, task.kept);
      multiply(scores, mask, row);
    }
    product(out + first * out_stride, out_stride, {p, row, 1}, v.data, v.stride, rows, task.width, task.tokens);
  }
}

void attend_head_backward(const HeadTask& task, HeadView q, HeadView k, HeadView v, HeadView g, HeadView out, const float* log_sums,
                          int64_t log_stride, const HeadGradients& to) {
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
    product(p, row, {q_rows, q.stride, 1}, kt, row, rows, row, task.width);
    product(dp, row, {g_rows, g.stride, 1}, vt, row, rows, row, task.width);
    for (int64_t i = 0; i < rows; ++i) {
      float *weights = p + i * row, *dweights = dp + i * row, *mask = kept + i * row;
      const float *g_row = g_rows + i * g.stride, *out_row = out.data + (first + i) * out.stride;
      weights_of(weights, row, task.scale, log_sums[(first + i) * log_stride]);
      float mean = 0;  // sum_j p_j dp_j = g . out, dropout included
      for (int64_t c = 0; c < task.width; ++c) mean += g_row[c] * out_row[c];
      if (task.threshold > 0) {
        mask_of(mask, row, row_seed(task, first + i), task.threshold, task.kept);
        multiply(dweights, mask, row);
        multiply(mask, weights, row);
      } else {
        std::copy_n(weights, row, mask);
      }
      score_gradients(weights, dweights, mean, task.scale, row);
    }
    add_product(gv, task.width, {kept, 1, row}, g_rows, g.stride, task.tokens, task.width, rows);
    product(to.q + first * to.stride, to.stride, {p, row, 1}, k.data, k.stride, rows, task.width, task.tokens);
    add_product(gk, task.width, {p, 1, row}, q_rows, q.stride, task.tokens, task.width, rows);
  }
  for (int64_t i = 0; i < task.tokens; ++i) {
    std::copy_n(gk + i * task.width, task.width, to.k + i * to.stride);
    std::copy_n(gv + i * task.width, task.width, to.v + i * to.stride);
  }
}

}  // namespace deeplora
