// The safetensors file format: 8 bytes header length, a JSON header, then the tensors' bytes, little-endian
// and row-major. Source: https://github.com/huggingface/safetensors (README, "Format"). Free of LibTorch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"

namespace deeplora {

/// One tensor of a file.
struct SafeTensorInfo {
  std::string dtype;           ///< "F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8" or "BOOL"
  std::vector<int64_t> shape;  ///< empty for a scalar
  size_t begin = 0, end = 0;   ///< bytes, counted from the end of the header
};

/// Bytes of one element of a dtype, 0 for an unknown one.
size_t safetensors_element_size(std::string_view dtype);

/// A file that was checked as a whole; its bytes are mapped, not copied. Copies share the mapping.
class SafeTensorsFile {
 public:
  /// Throws one Error with everything that is wrong, each naming the tensor: header longer than the file, not
  /// JSON, unknown dtype, shape that does not fit the offsets, offsets outside the file, overlaps, holes,
  /// names given twice.
  static SafeTensorsFile read(const std::filesystem::path& file);

  /// In the order of their bytes.
  const std::vector<std::pair<std::string, SafeTensorInfo>>& tensors() const { return tensors_; }
  bool contains(std::string_view name) const { return index_.find(name) != index_.end(); }
  /// Throws Error with the nearest name when there is no such tensor.
  const SafeTensorInfo& info(std::string_view name) const;
  /// Bytes of a tensor, valid while this object or a copy lives; not aligned to the element in files of other
  /// writers.
  std::span<const std::byte> data(std::string_view name) const;
  /// Where the tensors' bytes begin in the file.
  size_t data_begin() const { return data_begin_; }
  /// The `__metadata__` of the header.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  std::string file_;
  std::shared_ptr<const void> mapping_;
  std::span<const std::byte> bytes_;
  size_t data_begin_ = 0;
  std::vector<std::pair<std::string, SafeTensorInfo>> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  std::map<std::string, std::string> metadata_;
};

/// A tensor to be written; the bytes stay the caller's.
struct SafeTensorView {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};

/// The bytes of tensors[i] when its turn comes, in place of those of the view and as many; valid until the next call.
using BytesOfTurn = std::function<std::span<const std::byte>(size_t i)>;

/// Writes atomically, byte for byte as the reference does: widest dtype first, then by name, header padded to
/// 8 bytes. Throws Error when the disk refuses, a name comes twice, is reserved or not UTF-8, or bytes do not
/// fit dtype and shape.
void write_safetensors(const std::filesystem::path& file, std::span<const SafeTensorView> tensors,
                       const std::map<std::string, std::string>& metadata = {}, const BytesOfTurn& bytes_of = {});

}  // namespace deeplora
