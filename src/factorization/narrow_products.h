// Matrix products with a side as narrow as the factors of a chain.
#pragma once

#include <torch/types.h>

namespace deeplora {

/// y [M, N] = scale a b, or y += scale a b, on the CPU: y float32 with rows of any stride, a [M, K] and b [K, N]
/// float32, each laid out by rows or by columns. Made for products of which one side is narrow, by loops that keep a
/// tile of y in registers. Every element is one sum over K, cut at places that K alone decides. False, with y
/// untouched, for other types and layouts.
bool narrow_product(torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& b, double scale, bool add);

/// Whether that is faster than MKL for a b here: on processors with AVX2 of other makers than Intel, whose narrow
/// products MKL leaves to its loops for edges, where the narrow side fills registers.
bool prefers_narrow_product(const torch::Tensor& a, const torch::Tensor& b);

}  // namespace deeplora
