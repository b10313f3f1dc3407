// Attention of one head and dropout, free of LibTorch. Their inner loops (models/loops) are compiled for several instruction sets.
#pragma once

#include <cstdint>

#include "models/mix_bits.h"

namespace deeplora {

/// An element is dropped when its bits are below this.
inline uint32_t drop_threshold(double p) { return static_cast<uint32_t>(p * 4294967296.0); }

/// out[i] = (residual ? residual[i] : 0) + (kept(first + i) ? x[i] * scale : 0), for n elements.
void masked_sum(float* out, const float* x, const float* residual, int64_t first, int64_t n, uint32_t seed, uint32_t threshold, float scale);

/// One head of one sequence.
struct HeadTask {
  int64_t tokens, width;  ///< T, d
  float scale;            ///< 1 / sqrt(d)
  uint32_t seed, first;   ///< the mask of row i and column j is a function of these, i and j
  uint32_t threshold;     ///< 0: nothing is dropped
  float kept;             ///< 1 / (1 - dropout)
};

/// [T, d] with `stride` elements between rows.
struct HeadView {
  const float* data;
  int64_t stride;
};

/// out [T, d] (rows out_stride apart) = dropout(softmax(scale q k^T)) v; log_sums: log of each row's softmax denominator.
void attend_head(const HeadTask& task, HeadView q, HeadView k, HeadView v, float* out, int64_t out_stride, float* log_sums, int64_t log_stride);

struct HeadGradients {
  float *q, *k, *v;
  int64_t stride;
};

/// Gradients of q, k and v from that of the output, g; `out` and `log_sums` are what attend_head() gave.
void attend_head_backward(const HeadTask& task, HeadView q, HeadView k, HeadView v, HeadView g, HeadView out, const float* log_sums,
                          int64_t log_stride, const HeadGradients& to);

}  // namespace deeplora
