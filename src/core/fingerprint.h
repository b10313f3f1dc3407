// A 64-bit checksum of anything: is a file whole, are these the same weights. Not for security. Free of LibTorch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace deeplora {

/// FNV-1a over 8-byte words, so that hundreds of megabytes take a fraction of a second.
class Fingerprint {
 public:
  void add(const void* bytes, size_t count);
  void add(std::string_view text);
  void add(int64_t value) { add(&value, sizeof(value)); }
  void add(double value) { add(&value, sizeof(value)); }
  void add(std::span<const int64_t> values);
  uint64_t value() const { return hash_; }
  /// 16 hexadecimal digits.
  std::string hex() const;

 private:
  uint64_t hash_ = 0xcbf29ce484222325ULL;
};

/// Of the bytes alone.
std::string fingerprint(std::string_view bytes);

}  // namespace deeplora
