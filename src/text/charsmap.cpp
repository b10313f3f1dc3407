#include "text/charsmap.h"

#include <cstring>

#include "core/files.h"

namespace deeplora {
namespace {

std::string from_base64(std::string_view text, const std::string& where) {
  std::string out;
  uint32_t bits = 0;
  int have = 0;
  for (const char c : text) {
    if (c == '=') break;
    const int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    check(value >= 0, where, ": precompiled_charsmap is not base64");
    bits = (bits << 6) | static_cast<uint32_t>(value);
    have += 6;
    if (have < 8) continue;
    have -= 8;
    out += static_cast<char>((bits >> have) & 255);
  }
  return out;
}

// A unit of the double array.
size_t offset_of(uint32_t unit) { return static_cast<size_t>(unit >> 10) << ((unit & (1U << 9)) >> 6); }
uint32_t label_of(uint32_t unit) { return unit & (1U << 31 | 0xFF); }
bool has_leaf(uint32_t unit) { return ((unit >> 8) & 1) != 0; }
size_t value_of(uint32_t unit) { return unit & ((1U << 31) - 1); }

/// As the library counts: what was there before, character by character, and what is now.
void append_replacement(std::vector<Change>& out, std::string_view before, std::string_view now) {
  const size_t first = out.size();
  for (size_t at = 0; at < now.size(); at += utf8_length(now[at])) out.push_back({utf8_at(now, at), 0});
  const auto more = static_cast<int64_t>(out.size() - first) - static_cast<int64_t>(utf8_count(before));
  if (more > 0) {
    for (size_t i = 0; i < static_cast<size_t>(more); ++i) out[out.size() - 1 - i].change = 1;
  } else if (more < 0 && !out.empty()) {
    out.back().change += static_cast<int32_t>(more);
  }
}

}  // namespace

Charsmap::Charsmap(const Component& part) {
  part.known({"precompiled_charsmap"});
  const std::string map = from_base64(part.at<std::string>("precompiled_charsmap"), part.where());
  const auto sound = [&](bool ok) { check(ok, part.where(), ": the table of character replacements is broken"); };
  uint32_t size = 0;
  sound(map.size() > sizeof(size));
  std::memcpy(&size, map.data(), sizeof(size));
  sound(size > 0 && size % sizeof(uint32_t) == 0 && size < map.size() - sizeof(size));
  units_.resize(size / sizeof(uint32_t));
  std::memcpy(units_.data(), map.data() + sizeof(size), size);
  texts_ = map.substr(sizeof(size) + size);
  sound(texts_.back() == '\0' && is_valid_utf8(texts_));
}

template <class Use>
void Charsmap::keys(std::string_view text, Use use) const {
  size_t at = offset_of(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == 0) return;
    at ^= byte;
    if (at >= units_.size() || label_of(units_[at]) != byte) return;
    const bool leaf = has_leaf(units_[at]);
    at ^= offset_of(units_[at]);
    if (!leaf) continue;
    const size_t begin = at < units_.size() ? value_of(units_[at]) : texts_.size();
    if (begin >= texts_.size() || (static_cast<unsigned char>(texts_[begin]) & 0xC0) == 0x80) return;
    if (!use(i + 1, std::string_view(texts_).substr(begin, texts_.find('\0', begin) - begin))) return;
  }
}

std::optional<std::string_view> Charsmap::find(std::string_view text) const {
  std::optional<std::string_view> out;
  keys(text, [&](size_t, std::string_view made) {
    out = made;
    return false;
  });
  return out;
}

std::optional<std::pair<std::string_view, size_t>> Charsmap::find_longest(std::string_view text) const {
  std::optional<std::pair<std::string_view, size_t>> out;
  keys(text, [&](size_t length, std::string_view made) {
    out = {made, length};
    return true;
  });
  return out;
}

void Charsmap::apply(AlignedText& text) const {
  constexpr size_t kLongest = 6;  // longer graphemes are looked up character by character
  const std::string& old = text.text;
  std::vector<Change> changes;
  changes.reserve(old.size());
  bool modified = false;
  const auto replace = [&](std::string_view before, std::string_view now) {
    modified = true;
    append_replacement(changes, before, now);
  };
  for (size_t at = 0; at < old.size();) {
    const size_t end = static_cast<unsigned char>(old[at]) >= 0x20 && at + 1 < old.size() &&
                               static_cast<signed char>(old[at]) > 0 && static_cast<signed char>(old[at + 1]) >= 0x20
                           ? at + 1  // ASCII before ASCII
                           : grapheme_end(old, at);
    const std::string_view grapheme = std::string_view(old).substr(at, end - at);
    if (grapheme.size() < kLongest) {
      if (const auto found = find(grapheme)) {
        replace(grapheme, *found);
        at = end;
        continue;
      }
    }
    for (; at < end; at += utf8_length(old[at])) {
      const std::string_view one = std::string_view(old).substr(at, utf8_length(old[at]));
      if (const auto found = find(one)) replace(one, *found);
      else changes.push_back({utf8_at(old, at), 0});
    }
  }
  if (modified) text.transform(changes);
}

std::string to_base64(std::string_view bytes) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t at = 0; at < bytes.size(); at += 3) {
    uint32_t bits = 0;
    for (size_t i = 0; i < 3; ++i)
      bits = bits << 8 | (at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0u);
    for (size_t i = 0; i < 4; ++i) out += i > bytes.size() - at ? '=' : kDigits[bits >> (18 - 6 * i) & 63];
  }
  return out;
}

}  // namespace deeplora
