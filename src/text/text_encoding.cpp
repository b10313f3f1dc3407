#include "text/text_encoding.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/error.h"

namespace deeplora {
namespace {

/// Bytes 0x80 to 0x9F of Windows-1252.
constexpr std::array<uint16_t, 32> kWestern{0x20AC, 0x81,   0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021,
                                            0x2C6,  0x2030, 0x160,  0x2039, 0x152,  0x8D,   0x17D,  0x8F,
                                            0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                            0x2DC,  0x2122, 0x161,  0x203A, 0x153,  0x9D,   0x17E,  0x178};

void append_utf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    out += static_cast<char>(0xE0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  }
}

}  // namespace

const std::vector<std::string>& known_encodings() {
  static const std::vector<std::string> known{"utf-8", "latin-1", "cp1252"};
  return known;
}

std::string decoded_text(std::string bytes, std::string_view encoding) {
  const auto& known = known_encodings();
  check(std::find(known.begin(), known.end(), encoding) != known.end(), "encoding: expected one of ", join(known),
        ", found '", encoding, "'", did_you_mean(encoding, known));
  if (encoding == "utf-8") return bytes;
  std::string out;
  out.reserve(bytes.size() + bytes.size() / 8);
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    append_utf8(out, encoding == "cp1252" && byte >= 0x80 && byte < 0xA0 ? kWestern[byte - 0x80U] : byte);
  }
  return out;
}

}  // namespace deeplora
