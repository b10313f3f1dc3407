// Matrix products by oneDNN's kernels for single blocks, behind LibTorch's door to them.
#pragma once

#include <torch/types.h>

#include "factorization/stored_lines.h"

namespace deeplora {

/// y [M, N] = scale a b, or y += scale a b, on the CPU: y float32 with rows of any stride; a [M, K] and b [K, N] both
/// float32 or both bfloat16, each laid out by rows or by columns. An operand that the kernels cannot read as it lies is
/// laid out block by block on the way, so nothing of a weight's size is held. Every element is one sum over K, cut at
/// places that K alone decides. False, with y untouched, where the kernels cannot serve: another LibTorch or processor,
/// other layouts, or bfloat16 with an odd K.
bool block_product(torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& b, double scale, bool add);

/// block_product() of a [M, K], float32 or bfloat16, and a b that is kept in a narrower type: of its lines
/// (`transposed`: b^T's) blocks are widened to a's type on the way.
bool lines_product(torch::Tensor& y, const torch::Tensor& a, const StoredLines& b, bool transposed, bool add);

/// Whether they are faster than MKL here: on processors with AVX-512 of other makers than Intel, for which MKL has AVX2
/// loops only, and none at all for bfloat16.
bool prefers_block_products();

}  // namespace deeplora
