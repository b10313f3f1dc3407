// NumPy's .npy files. Free of LibTorch.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace deeplora {

/// A matrix of float32, row after row, as numpy.save writes it (format 1.0, little-endian). Throws
/// std::invalid_argument unless there are rows x columns values.
std::string npy_bytes(std::span<const float> values, int64_t rows, int64_t columns);

}  // namespace deeplora
