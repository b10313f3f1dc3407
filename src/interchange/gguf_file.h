// The GGUF file format, version 3: settings by key, then tensors. Source: ggml's docs/gguf.md. Free of LibTorch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace deeplora {

/// What a key may hold here.
using GgufValue = std::variant<std::string, uint32_t, float, bool>;

/// A float32 tensor to be written; the values stay the caller's.
struct GgufTensor {
  std::string name;
  std::vector<int64_t> shape;  ///< row-major, as everywhere here; the file counts sizes from the innermost
  std::span<const float> values;
};

/// Writes atomically. Throws Error when the disk refuses, a tensor's name comes twice or is longer than 63 bytes (ggml
/// keeps no more), or values do not fit a shape.
void write_gguf(const std::filesystem::path& file, const std::vector<std::pair<std::string, GgufValue>>& settings,
                const std::vector<GgufTensor>& tensors);

}  // namespace deeplora
