// LibTorch tensors in safetensors files.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/optimizer.h"

namespace deeplora {

/// Named tensors with the file's text metadata.
struct TensorFile {
  std::map<std::string, torch::Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// "BF16" -> torch::kBFloat16. Throws Error for a type that LibTorch has none for.
torch::ScalarType safetensors_type(const std::string& name);

/// Writes atomically; tensors of any device, layout and floating or whole dtype.
void save_tensors(const std::filesystem::path& file, const std::vector<NamedTensor>& tensors,
                  const std::map<std::string, std::string>& metadata);

/// Reads a whole file into CPU tensors of their own memory. Throws Error for anything that is not a sound safetensors
/// file.
TensorFile load_tensors(const std::filesystem::path& file);

}  // namespace deeplora
