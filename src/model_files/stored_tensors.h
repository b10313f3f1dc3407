// The tensors of an archive where they lie in its file.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <memory>

namespace deeplora {

/// Lets the file stand for the memory of weights that are hardly read any more: those of which a run keeps a copy in another layout.
class StoredTensors {
 public:
  /// The file is opened when the first tensor is asked for.
  explicit StoredTensors(std::filesystem::path archive);

  /// The same tensor where it lies in the file, read from there when it is touched; writing to it leaves the file as it is. Undefined where the file does not
  /// hold its bytes: other devices, tensors that were changed, packed or unaligned entries, a file that is gone.
  torch::Tensor find(const torch::Tensor& x) const;
  /// find() for x's whole storage: whoever shares it reads it from the file from now on, and its memory is freed. False, and nothing happens, where the file
  /// does not hold it.
  bool take_over(const torch::Tensor& x) const;

 private:
  class Pages;
  /// Null where the file does not hold these bytes of the processor's memory.
  char* place_of(const void* bytes, uint64_t count) const;
  std::filesystem::path archive_;
  mutable std::shared_ptr<const Pages> pages_;
  mutable bool opened_ = false;
};

}  // namespace deeplora
