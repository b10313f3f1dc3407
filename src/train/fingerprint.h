// 64-bit checksums: is a file whole, did a tensor move, are these the same rows. Not for security.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "tasks/task.h"

namespace deeplora {

/// FNV-1a over 8-byte words, so that hundreds of megabytes take a fraction of a second.
class Fingerprint {
 public:
  void add(const void* bytes, size_t count);
  void add(std::string_view text);
  void add(int64_t value) { add(&value, sizeof(value)); }
  void add(double value) { add(&value, sizeof(value)); }
  void add(std::span<const int64_t> values);
  /// 16 hexadecimal digits.
  std::string hex() const;

 private:
  uint64_t hash_ = 0xcbf29ce484222325ULL;
};

/// Of the bytes alone.
std::string fingerprint(std::string_view bytes);
/// Of the bits of a tensor on any device; -0 and 0 differ.
std::string fingerprint(const torch::Tensor& tensor);
/// Of everything a model or a loss may see of the rows, in order.
std::string fingerprint(std::span<const Example> examples);

}  // namespace deeplora
