#include "text/plain_words.h"

#include "text/unicode.h"

namespace deeplora {
namespace {

int64_t code_points(std::string_view text) {
  int64_t out = 0;
  for (size_t at = 0; at < text.size(); at += utf8_length(text[at])) ++out;
  return out;
}

}  // namespace

PlainWords plain_words(std::string_view text) {
  check_utf8(text);
  PlainWords out;
  int64_t place = 0;
  bool in_word = false;
  for (size_t at = 0; at < text.size(); ++place) {
    const size_t length = utf8_length(text[at]);
    const char32_t code = utf8_at(text, at);
    const bool space = is_space(code), alone = !space && is_punctuation(code);
    if (!space && (alone || !in_word)) {
      out.words.emplace_back();
      out.offsets.push_back({place, place});
    }
    if (!space) {
      out.words.back() += text.substr(at, length);
      out.offsets.back().end = place + 1;
    }
    in_word = !space && !alone;
    at += length;
  }
  return out;
}

std::vector<TokenOffsets> joined_offsets(const std::vector<std::string>& words) {
  std::vector<TokenOffsets> out;
  int64_t place = 0;
  for (const auto& word : words) {
    const int64_t end = place + code_points(word);
    out.push_back({place, end});
    place = end + 1;
  }
  return out;
}

std::string_view slice(std::string_view text, const TokenOffsets& offsets) {
  size_t begin = 0;
  int64_t place = 0;
  for (; place < offsets.begin && begin < text.size(); ++place) begin += utf8_length(text[begin]);
  size_t end = begin;
  for (; place < offsets.end && end < text.size(); ++place) end += utf8_length(text[end]);
  return text.substr(begin, end - begin);
}

}  // namespace deeplora
