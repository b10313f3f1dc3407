// What the loops of vector_loops.h work on. No functions: compiled for several instruction sets.
#pragma once

#include <cstdint>

namespace deeplora {

/// One head of one sequence.
struct HeadTask {
  int64_t queries;  ///< rows of q, the output and log_sums, Q: T, or fewer for the first tokens alone (then not causal)
  int64_t tokens, width;  ///< T, d
  float scale;            ///< 1 / sqrt(d)
  uint32_t seed, first;   ///< the mask of row i and column j is a function of these, i and j
  uint32_t threshold;     ///< 0: nothing is dropped
  float kept;             ///< 1 / (1 - dropout)
  bool causal;            ///< row i looks at rows 0 .. i only
  int64_t window;         ///< and at none `window` or more rows away; 0: at all of them
};

/// [T, d] with `stride` elements between rows.
struct HeadView {
  const float* data;
  int64_t stride;
};

struct HeadGradients {
  float *q, *k, *v;
  int64_t q_stride, stride;  ///< of q, and of k and v
  bool add;                  ///< k and v have gradients of another head already, to which these are added
};

/// Rotary positions of rows: element j of a head and element j + half turn by the row's angle j.
struct RotationTask {
  int64_t rows, heads, half;
  const float *cosines, *sines;  ///< [rows, half]
  float direction;               ///< 1, or -1 for the way back
};

/// Rows of a layer norm behind a residual sum: LayerNorm(residual + dropout(x)) weight + bias.
struct NormTask {
  int64_t rows, width;
  const float *weight, *bias;  ///< [width]
  float eps;
  int64_t first;             ///< number of the first element, of which its mask is a function
  uint32_t seed, threshold;  ///< threshold 0: nothing is dropped
  float kept;                ///< 1 / (1 - dropout)
};

/// [rows, width] with `stride` elements between rows.
struct RowsView {
  const float* data;
  int64_t stride;
};

}  // namespace deeplora
