// Fields of the protocol buffer messages that a sentencepiece model consists of.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"

namespace deeplora {

/// One after the other. Throws Error, naming the file, where the bytes are no such message.
class SentencePieceFields {
 public:
  SentencePieceFields(const std::string& file, std::string_view bytes) : file_(file), rest_(bytes) {}

  uint64_t number = 0;       ///< which field
  std::string_view content;  ///< of fields of bytes, else empty
  uint64_t value = 0;        ///< of numbers, bits of reals

  /// False at the end.
  bool next() {
    if (rest_.empty()) return false;
    const uint64_t key = varint(), wire = key & 7;
    number = key >> 3;
    content = {};
    value = 0;
    if (wire == 0) value = varint();
    else if (wire == 1) take(8);
    else if (wire == 2) content = take(varint());
    else if (wire == 5) value = fixed();
    else fail(file_, ": not a sentencepiece model: its field ", number, " has the unknown wire type ", wire);
    return true;
  }
  float real() const { return std::bit_cast<float>(static_cast<uint32_t>(value)); }
  std::string text() const { return std::string(content); }

 private:
  uint64_t varint() {
    uint64_t out = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      out |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return out;
    }
    fail(file_, ": not a sentencepiece model: a number without an end");
  }
  uint64_t fixed() {
    const std::string_view bytes = take(4);
    uint64_t out = 0;
    for (size_t i = 4; i-- > 0;) out = out << 8 | static_cast<unsigned char>(bytes[i]);
    return out;
  }
  std::string_view take(uint64_t size) {
    check(size <= rest_.size(), file_, ": not a whole sentencepiece model: it is cut off or of another format");
    const std::string_view out = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return out;
  }

  const std::string& file_;
  std::string_view rest_;
};

}  // namespace deeplora
