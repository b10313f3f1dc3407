// Products of one row or a few, as decoding has them: what they cost is reading the matrix.
#pragma once

#include <torch/types.h>

#include "factorization/stored_lines.h"

namespace deeplora {

inline constexpr int64_t kFewRows = 16;

/// y [M, m] = a W^T, or y += a W^T, on the CPU: y float32 with rows of any stride, a [M, n] float32 or bfloat16, M up
/// to kFewRows; the lines of `w` are the rows of W. Every line is read once and multiplied with all rows while it is at
/// hand, in float32; with a bfloat16 a its numbers are rounded to bfloat16 before. A result depends on its row and its
/// line alone. False, with y untouched, for anything else.
bool few_rows_product(torch::Tensor& y, const torch::Tensor& a, const StoredLines& w, bool add);

}  // namespace deeplora
