// The tensors of a model where they lie in its files.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <vector>

namespace deeplora {

/// A file, and where tensors begin in it: bytes of a tensor -> offsets.
struct FileOfTensors {
  std::filesystem::path path;
  std::multimap<uint64_t, uint64_t> places;
};

/// Of a zip archive that LibTorch wrote: whole, unpacked entries at aligned places, in the order in which it reads
/// them. Throws Error where it is none.
FileOfTensors tensors_in_archive(const std::filesystem::path& archive);

/// Lets the files stand for the memory of weights that are hardly read any more: those of which a run keeps a copy in
/// another layout.
class StoredTensors {
 public:
  /// Files that are opened at once. Throws Error where one cannot be mapped.
  explicit StoredTensors(std::vector<FileOfTensors> files);

  /// The tensor of that shape and type at byte `offset` of file number `file`: a view into the mapped file, or a copy
  /// where it does not lie at a multiple of its element's size. Writing to it leaves the file as it is.
  torch::Tensor at(size_t file, uint64_t offset, const std::vector<int64_t>& sizes, torch::ScalarType type) const;
  /// The same tensor where it lies in the file, read from there when it is touched; writing to it leaves the file as it
  /// is. Undefined where no file holds its bytes: other devices, tensors that were changed, packed or unaligned
  /// entries, a file that is gone.
  torch::Tensor find(const torch::Tensor& x) const;
  /// find() for x's whole storage: whoever shares it reads it from the file from now on, and its memory is freed; where
  /// it lies there already, as let_go(). False where it stays where it is.
  bool take_over(const torch::Tensor& x) const;
  /// Where file number `file` begins in memory.
  const char* begin(size_t file) const;
  /// A file that tensors look into and that was written to since it was opened; empty where none was. One that was
  /// replaced or removed stays what it was for whoever has it open.
  std::filesystem::path written_over() const;
  /// Gives back the memory of pages that x, unchanged since, was read from; they are read again when they are touched.
  /// Nothing happens where x does not lie in a mapped file.
  void let_go(const torch::Tensor& x) const;

 private:
  class Pages;
  using AllPages = std::vector<std::shared_ptr<const Pages>>;
  /// The pages that hold these bytes of the processor's memory, and where; null where none do.
  std::pair<std::shared_ptr<const Pages>, char*> place_of(const void* bytes, uint64_t count) const;
  AllPages pages_;
};

}  // namespace deeplora
