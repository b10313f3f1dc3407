#include "text/encoding.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/error.h"

namespace deeplora {
namespace {

/// 0x80 to 0x9F of Windows code page 1252; 0: no character.
constexpr std::array<uint32_t, 32> kCp1252{0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
                                           0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0,      0x017D, 0,
                                           0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                           0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178};

void append(std::string& out, uint32_t code) {
  const auto byte = [&](uint32_t value) { out += static_cast<char>(value); };
  if (code < 0x80) {
    byte(code);
  } else if (code < 0x800) {
    byte(0xC0 | code >> 6);
    byte(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    byte(0xE0 | code >> 12);
    byte(0x80 | (code >> 6 & 0x3F));
    byte(0x80 | (code & 0x3F));
  } else {
    byte(0xF0 | code >> 18);
    byte(0x80 | (code >> 12 & 0x3F));
    byte(0x80 | (code >> 6 & 0x3F));
    byte(0x80 | (code & 0x3F));
  }
}

/// Line of the last character of what was read so far.
size_t line_of(const std::string& text) {
  const char end = text.find('\n') == std::string::npos ? '\r' : '\n';
  return static_cast<size_t>(std::count(text.begin(), text.end(), end)) + 1;
}

std::string hex(uint32_t value) {
  const char* digits = "0123456789ABCDEF";
  std::string out;
  for (; value > 0 || out.empty(); value /= 16) out.insert(out.begin(), digits[value % 16]);
  return "0x" + out;
}

std::string from_one_byte(std::string_view bytes, bool windows, const std::string& where) {
  std::string out;
  out.reserve(bytes.size() + bytes.size() / 8);
  for (const char c : bytes) {
    auto code = static_cast<uint32_t>(static_cast<unsigned char>(c));
    if (windows && code >= 0x80 && code < 0xA0) {
      const uint32_t known = kCp1252[code - 0x80];
      check(known != 0, where, ":", line_of(out), ": byte ", hex(code),
            " is no character of cp1252; set data.encoding: latin-1, or save the file as UTF-8");
      code = known;
    }
    append(out, code);
  }
  return out;
}

std::string from_utf16(std::string_view bytes, bool big, const std::string& where) {
  std::string out;
  out.reserve(bytes.size());
  const auto unit = [&](size_t at) {
    const auto first = static_cast<unsigned char>(bytes[at]), second = static_cast<unsigned char>(bytes[at + 1]);
    return static_cast<uint32_t>(big ? first << 8 | second : second << 8 | first);
  };
  check(bytes.size() % 2 == 0, where, ": ", bytes.size(),
        " bytes are no whole number of UTF-16 units; the file is in another encoding, or cut");
  for (size_t at = 0; at < bytes.size(); at += 2) {
    uint32_t code = unit(at);
    const bool high = code >= 0xD800 && code < 0xDC00, low = code >= 0xDC00 && code < 0xE000;
    const uint32_t next = high && at + 2 < bytes.size() ? unit(at + 2) : 0;
    check(!low && (!high || (next >= 0xDC00 && next < 0xE000)), where, ":", line_of(out),
          ": not valid UTF-16 (half a pair, ", hex(code), ")");
    check(code != 0, where, ":", line_of(out), ": a NUL character; expected text");
    if (high) {
      code = 0x10000 + ((code - 0xD800) << 10) + (next - 0xDC00);
      at += 2;
    }
    append(out, code);
  }
  return out;
}

}  // namespace

const std::vector<std::string>& encoding_names() {
  static const std::vector<std::string> names{"utf-8", "latin-1", "cp1252", "utf-16"};
  return names;
}

std::pair<std::string, size_t> byte_order_mark(std::string_view bytes) {
  if (bytes.starts_with("\xEF\xBB\xBF")) return {"utf-8", 3};
  if (bytes.starts_with("\xFF\xFE")) return {"utf-16le", 2};
  if (bytes.starts_with("\xFE\xFF")) return {"utf-16be", 2};
  return {"", 0};
}

std::string to_utf8(std::string bytes, const std::string& encoding, const std::string& where) {
  const auto [marked, length] = byte_order_mark(bytes);
  bytes.erase(0, length);
  const std::string& name = marked.empty() ? encoding : marked;
  if (name == "utf-8") return bytes;
  if (name.starts_with("utf-16")) return from_utf16(bytes, name == "utf-16be", where);
  return from_one_byte(bytes, name == "cp1252", where);
}

std::string likely_encoding(std::string_view bytes) {
  const auto zeros = std::count(bytes.begin(), bytes.end(), '\0');
  if (static_cast<size_t>(zeros) * 4 > bytes.size()) return "utf-16";
  const bool windows = std::none_of(bytes.begin(), bytes.end(), [](char c) {
    const auto code = static_cast<unsigned char>(c);
    return code >= 0x80 && code < 0xA0 && kCp1252[code - 0x80U] == 0;
  });
  return windows ? "cp1252" : "latin-1";
}

}  // namespace deeplora
