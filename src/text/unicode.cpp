#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "text/unicode_tables.h"

namespace deeplora {
namespace tables = unicode_tables;
namespace {

/// The entry whose first..last holds `code`, or nullptr.
template <class Entry>
const Entry* find_range(std::span<const Entry> ranges, char32_t code) {
  const auto after = std::upper_bound(ranges.begin(), ranges.end(), code,
                                      [](char32_t c, const Entry& range) { return c < range.first; });
  if (after == ranges.begin()) return nullptr;
  const Entry& range = *(after - 1);
  return code <= range.last ? &range : nullptr;
}

bool in(std::span<const tables::Range> ranges, char32_t code) {
  return find_range(ranges, code) != nullptr;
}

int combining_class(char32_t code) {
  if (code < 0x300) return 0;
  const auto* found = find_range(tables::combining(), code);
  return found ? found->combining_class : 0;
}

size_t length_from_lead(unsigned char lead) {
  return lead < 0x80 ? 1 : (lead >> 5) == 0x6 ? 2 : (lead >> 4) == 0xE ? 3 : 4;
}

size_t first_bad_byte(std::string_view utf8) {
  size_t at = 0;
  while (at < utf8.size()) {
    const size_t length = length_from_lead(static_cast<unsigned char>(utf8[at]));
    if (!is_valid_utf8(utf8.substr(at, length))) break;
    at += length;
  }
  return at;
}

void append_decomposed(std::u32string& out, char32_t code) {
  if (code < 0xC0 || !in(tables::decomposing(), code)) {
    out.push_back(code);
    return;
  }
  utf8proc_int32_t buffer[8];
  int boundary = 0;
  const auto length =
      utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code), buffer, 8, UTF8PROC_DECOMPOSE, &boundary);
  // No canonical decomposition is longer than four code points.
  if (length < 1 || length > 8) throw std::logic_error("utf8proc: no decomposition");
  out.insert(out.end(), buffer, buffer + length);
}

/// The character that two compose to, or 0.
char32_t compose(char32_t first, char32_t second) {
  utf8proc_int32_t pair[3] = {static_cast<utf8proc_int32_t>(first), static_cast<utf8proc_int32_t>(second), 0};
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
  if (utf8proc_normalize_utf32(pair, 2, options) != 1) return 0;
  if (pair[0] == static_cast<utf8proc_int32_t>(first))
    return 0;  // libutf8proc 2.8 swallows U+11A7 after Hangul
  // A newer libutf8proc composes characters that the tokenizers library does not know.
  const auto composed = static_cast<char32_t>(pair[0]);
  return in(tables::decomposing(), composed) ? composed : 0;
}

}  // namespace

std::u32string to_code_points(std::string_view utf8, std::string_view what) {
  check(is_valid_utf8(utf8), what, " is not valid UTF-8 (byte ", first_bad_byte(utf8), ")");
  std::u32string out;
  out.reserve(utf8.size());
  for (size_t i = 0; i < utf8.size();) {
    const auto lead = static_cast<unsigned char>(utf8[i]);
    const size_t length = length_from_lead(lead);
    char32_t code = length == 1 ? lead : lead & (0x7Fu >> length);
    for (size_t k = 1; k < length; ++k) code = (code << 6) | (static_cast<unsigned char>(utf8[i + k]) & 0x3F);
    out.push_back(code);
    i += length;
  }
  return out;
}

void append_utf8(std::string& out, char32_t code) {
  const auto tail = [&](int shift) { out.push_back(static_cast<char>(0x80 | ((code >> shift) & 0x3F))); };
  if (code < 0x80) {
    out.push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out.push_back(static_cast<char>(0xC0 | (code >> 6)));
    tail(0);
  } else if (code < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | (code >> 12)));
    tail(6);
    tail(0);
  } else {
    out.push_back(static_cast<char>(0xF0 | (code >> 18)));
    tail(12);
    tail(6);
    tail(0);
  }
}

std::string to_utf8(std::u32string_view codes) {
  std::string out;
  out.reserve(codes.size());
  for (const char32_t code : codes) append_utf8(out, code);
  return out;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  size_t found = text.find(from);
  if (found == std::string::npos) return;
  std::string out;
  size_t done = 0;
  for (; found != std::string::npos; found = text.find(from, done)) {
    out.append(text, done, found - done).append(to);
    done = found + from.size();
  }
  text = out.append(text, done);
}

bool is_space(char32_t code) {
  if (code < 0x80) return code == ' ' || (code >= 0x9 && code <= 0xD);
  return in(tables::spaces(), code);
}

bool is_removed(char32_t code) {
  if (code >= 0x20 && code < 0x7F) return false;
  return in(tables::removed(), code);
}

bool is_chinese(char32_t code) {
  return code >= 0x2E80 && in(tables::chinese(), code);
}
bool is_mark(char32_t code) {
  return code >= 0x300 && in(tables::marks(), code);
}
bool is_punctuation(char32_t code) {
  return in(tables::punctuation(), code);
}
bool is_letter(char32_t code) {
  return in(tables::letters(), code);
}
bool is_number(char32_t code) {
  return in(tables::numbers(), code);
}
bool is_digit(char32_t code) {
  return is_number(code) || in(tables::newer_digits(), code);
}
bool is_word(char32_t code) {
  return in(tables::words(), code);
}

void append_lowercase(std::u32string& out, char32_t code) {
  if (code < 0x80) {
    out.push_back(code >= 'A' && code <= 'Z' ? code + 32 : code);
    return;
  }
  const auto exceptions = tables::lowercase();
  const auto found =
      std::lower_bound(exceptions.begin(), exceptions.end(), code,
                       [](const tables::Lowercase& entry, char32_t c) { return entry.code < c; });
  if (found != exceptions.end() && found->code == code) {
    out.push_back(found->first);
    if (found->second) out.push_back(found->second);
    return;
  }
  out.push_back(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
}

std::u32string nfd(std::u32string_view codes) {
  std::u32string out;
  out.reserve(codes.size() + 8);
  for (const char32_t code : codes) append_decomposed(out, code);
  // Canonical order: every run of marks is sorted by class, equal classes keep their order.
  for (size_t i = 0; i < out.size();) {
    size_t end = i;
    while (end < out.size() && combining_class(out[end]) != 0) ++end;
    std::stable_sort(out.begin() + static_cast<std::ptrdiff_t>(i),
                     out.begin() + static_cast<std::ptrdiff_t>(end),
                     [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
    i = end + 1;
  }
  return out;
}

std::u32string nfc(std::u32string_view codes) {
  std::u32string out;
  std::optional<size_t> starter;  // place of the last character of class 0
  int last_class = 0;
  for (const char32_t code : nfd(codes)) {
    const int own_class = combining_class(code);
    const bool reaches_starter = starter && (out.size() - 1 == *starter || last_class < own_class);
    const char32_t composed = reaches_starter ? compose(out[*starter], code) : 0;
    if (composed) {
      out[*starter] = composed;
      continue;
    }
    if (own_class == 0) starter = out.size();
    last_class = own_class;
    out.push_back(code);
  }
  return out;
}

}  // namespace deeplora
