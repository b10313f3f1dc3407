// How a matrix lies in memory.
#pragma once

#include <torch/types.h>

namespace deeplora {

/// Whether the elements of a row lie side by side; rows may be any distance apart.
inline bool lies_by_rows(const torch::Tensor& x) { return x.stride(1) == 1 && x.stride(0) >= x.size(1); }
inline bool lies_by_columns(const torch::Tensor& x) { return x.stride(0) == 1 && x.stride(1) >= x.size(0); }

}  // namespace deeplora
