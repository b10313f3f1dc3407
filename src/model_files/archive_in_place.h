// Loading a TorchScript archive without reading its tensors: they lie in the mapped file.
#pragma once

#include <torch/script.h>

#include <filesystem>
#include <memory>

#include "model_files/stored_tensors.h"

namespace deeplora {

struct ArchiveInPlace {
  torch::jit::Module module;
  std::shared_ptr<const StoredTensors> stored;  ///< the archive's file
};

/// torch::jit::load() on the CPU, with tensors of 64 KB and more as views into the file's private pages: they take
/// memory when they are touched, and writing to them leaves the file as it is. Where the file is laid out in another
/// way than LibTorch's own writer does, they are read as usual. Throws what torch::jit::load() throws, and Error where
/// the file cannot be mapped.
ArchiveInPlace load_in_place(const std::filesystem::path& file);

}  // namespace deeplora
