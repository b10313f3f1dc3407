// Attention of one head, dropout, norms, rotary positions and a token's loss, free of LibTorch. Their inner loops
// (models/loops) are compiled for several instruction sets.
#pragma once

#include <cstdint>

#include "models/loop_tasks.h"

namespace deeplora {

/// An element is dropped when its bits are below this.
inline uint32_t drop_threshold(double p) { return static_cast<uint32_t>(p * 4294967296.0); }

/// out[i] = (residual ? residual[i] : 0) + (kept(first + i) ? x[i] * scale : 0), for n elements.
void masked_sum(float* out, const float* x, const float* residual, int64_t first, int64_t n, uint32_t seed,
                uint32_t threshold, float scale);

/// out [Q, d] (rows out_stride apart) = dropout(softmax(scale q k^T)) v; log_sums: log of each row's softmax
/// denominator.
void attend_head(const HeadTask& task, HeadView q, HeadView k, HeadView v, float* out, int64_t out_stride,
                 float* log_sums, int64_t log_stride);

/// Gradients of q, k and v from that of the output, g; `out` and `log_sums` are what attend_head() gave.
void attend_head_backward(const HeadTask& task, HeadView q, HeadView k, HeadView v, HeadView g, HeadView out,
                          const float* log_sums, int64_t log_stride, const HeadGradients& to);

/// out [rows, width] = the task's norm of x and residual; sums [rows, width]: what was normalised; stats [rows, 2]:
/// mean and 1 / standard deviation of each row.
void norm_rows(const NormTask& task, float* out, float* sums, float* stats, const float* x, const float* residual);

/// Gradients of x and of the residual from that of the output, g. gx may be null when nothing was dropped: it is gr
/// then.
void norm_rows_backward(const NormTask& task, float* gx, float* gr, const float* g, const float* sums,
                        const float* stats);

/// out [rows, width] = x weight / sqrt(mean(x^2) + eps); inverse [rows]: 1 / that root.
void rms_rows(float* out, float* inverse, const float* x, const float* weight, int64_t rows, int64_t width, float eps);
/// The gradient of x from that of the output, g.
void rms_rows_backward(float* gx, const float* g, const float* x, const float* inverse, const float* weight,
                       int64_t rows, int64_t width);

/// out (rows `out_stride` apart) = x turned by the task's angles; out may be x.
void rotate_rows(const RotationTask& task, float* out, int64_t out_stride, RowsView x);

/// log sum_j exp(scores[j]) - scores[label]; the scores are overwritten, with `gradient` by the gradient of that.
float token_loss(float* scores, int64_t label, int64_t count, bool gradient);

}  // namespace deeplora
