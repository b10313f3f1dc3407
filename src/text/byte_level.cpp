#include "text/byte_level.h"

namespace deeplora {

const std::array<char32_t, 256>& byte_characters() {
  static const auto filled = [] {
    std::array<char32_t, 256> out{};
    char32_t next = 0x100;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool visible = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      out[byte] = visible ? byte : next++;
    }
    return out;
  }();
  return filled;
}

std::optional<char> byte_of(char32_t code) {
  constexpr char32_t kEnd = 0x144;
  static const auto bytes = [] {
    std::array<int16_t, kEnd> out{};
    out.fill(-1);
    for (size_t byte = 0; byte < 256; ++byte) out[byte_characters()[byte]] = static_cast<int16_t>(byte);
    return out;
  }();
  if (code >= kEnd || bytes[code] < 0) return std::nullopt;
  return static_cast<char>(bytes[code]);
}

void append_byte_characters(std::string& out, std::string_view bytes) {
  const auto& characters = byte_characters();
  for (const char byte : bytes) append_utf8(out, characters[static_cast<unsigned char>(byte)]);
}

void to_byte_characters(AlignedText& text) {
  std::string made;
  made.reserve(text.text.size() + text.text.size() / 2);
  append_byte_characters(made, text.text);
  if (text.tracked) {
    std::vector<ByteSpan> spans;
    const auto& characters = byte_characters();
    for (size_t at = 0; at < text.text.size();) {
      const size_t end = at + utf8_length(text.text[at]);
      // The bytes of one character all stand for it.
      for (const ByteSpan span = text.spans[at]; at < end; ++at)
        spans.insert(spans.end(), characters[static_cast<unsigned char>(text.text[at])] < 0x80 ? 1 : 2, span);
    }
    text.spans = std::move(spans);
  }
  text.text = std::move(made);
}

}  // namespace deeplora
