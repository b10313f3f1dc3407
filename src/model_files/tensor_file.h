// LibTorch tensors in safetensors files.
#pragma once

#include <filesystem>
#include <functional>
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

/// What is written in place of tensors[i] when its turn comes, of the same shape and dtype: made then, and let go of
/// before the next.
using TensorOfTurn = std::function<torch::Tensor(size_t i)>;

/// Writes atomically; tensors of any device, layout and floating or whole dtype.
void save_tensors(const std::filesystem::path& file, const std::vector<NamedTensor>& tensors,
                  const std::map<std::string, std::string>& metadata, const TensorOfTurn& value_of = {});

/// Reads a whole file into CPU tensors of their own memory. Throws Error for anything that is not a sound safetensors
/// file.
TensorFile load_tensors(const std::filesystem::path& file);

}  // namespace deeplora
