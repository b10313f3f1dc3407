// What the loops of vector_loops.h work on. No functions: compiled for several instruction sets.
#pragma once

#include <cstdint>

namespace deeplora {

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

struct HeadGradients {
  float *q, *k, *v;
  int64_t stride;
};

/// Rows of a layer norm behind a residual sum: LayerNorm(residual + dropout(x)) weight + bias.
struct NormTask {
  int64_t rows, width;
  const float *weight, *bias;  ///< [width]
  float eps;
  int64_t first;               ///< number of the first element, of which its mask is a function
  uint32_t seed, threshold;    ///< threshold 0: nothing is dropped
  float kept;                  ///< 1 / (1 - dropout)
};

/// [rows, width] with `stride` elements between rows.
struct RowsView {
  const float* data;
  int64_t stride;
};

}  // namespace deeplora
