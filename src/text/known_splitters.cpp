#include "text/known_splitters.h"

#include <algorithm>

#include "text/unicode.h"

namespace deeplora {

const char* const kGpt2Expression = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

bool is_line_end(char32_t c) { return c == '\n' || c == '\r'; }
bool is_letter(char32_t c) {
  return c < 0x80 ? (c | 0x20) >= 'a' && (c | 0x20) <= 'z' : is_class(c, CharClass::letter);
}
bool is_number(char32_t c) { return c < 0x80 ? c >= '0' && c <= '9' : is_class(c, CharClass::number); }
bool is_symbol(char32_t c) { return !is_space(c) && !is_letter(c) && !is_number(c); }

/// First place from `at` on where `holds` is false.
template <class Holds>
size_t run(std::string_view text, size_t at, Holds holds) {
  while (at < text.size() && holds(utf8_at(text, at))) at += utf8_length(text[at]);
  return at;
}

/// End of 's 't 're 've 'm 'll 'd at `at`, or `at`.
size_t contraction(std::string_view text, size_t at, bool any_case) {
  if (text[at] != '\'') return at;
  size_t end = at + 1;
  const auto next = [&]() -> char32_t {
    if (end >= text.size()) return 0;
    const char32_t c = utf8_at(text, end);
    end += utf8_length(text[end]);
    if (!any_case) return c;
    if (c == 0x17F) return 's';  // the long s is an s to a case-insensitive expression
    return c >= 'A' && c <= 'Z' ? c + 32 : c;
  };
  const char32_t a = next();
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return end;
  const char32_t b = next();
  return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? end : at;
}

/// \s+(?!\S)|\s+ : white space before a word leaves its last character to the word.
size_t white_space(std::string_view text, size_t at) {
  const size_t end = run(text, at, is_space);
  if (end == text.size()) return end;
  const size_t last = utf8_before(text, end);
  return last > at ? last : end;
}

size_t match_gpt2(std::string_view text, size_t at) {
  if (const size_t end = contraction(text, at, false); end > at) return end;
  const size_t start = text[at] == ' ' && at + 1 < text.size() ? at + 1 : at;
  if (const size_t end = run(text, start, is_letter); end > start) return end;
  if (const size_t end = run(text, start, is_number); end > start) return end;
  if (const size_t end = run(text, start, is_symbol); end > start) return end;
  return white_space(text, at);
}

size_t match_qwen2(std::string_view text, size_t at, int most_digits) {
  if (const size_t end = contraction(text, at, true); end > at) return end;
  const char32_t first = utf8_at(text, at);
  const bool may_lead = !is_line_end(first) && !is_letter(first) && !is_number(first);
  const size_t start = may_lead ? at + utf8_length(text[at]) : at;
  if (const size_t end = run(text, start, is_letter); end > start) return end;
  if (is_number(first)) {
    size_t end = at;
    for (int i = 0; i < most_digits && end < text.size() && is_number(utf8_at(text, end)); ++i)
      end += utf8_length(text[end]);
    return end;
  }
  const size_t symbols = first == ' ' ? at + 1 : at;
  if (const size_t end = run(text, symbols, is_symbol); end > symbols) return run(text, end, is_line_end);
  const size_t blank = run(text, at, is_space);
  for (size_t end = blank; end > at; --end)
    if (is_line_end(static_cast<unsigned char>(text[end - 1]))) return end;
  return white_space(text, at);
}

}  // namespace

Splitter known_splitter(std::string_view pattern) {
  if (pattern == kGpt2Expression) return match_gpt2;
  if (pattern == kQwen2) return [](std::string_view text, size_t at) { return match_qwen2(text, at, 1); };
  if (pattern == kLlama3) return [](std::string_view text, size_t at) { return match_qwen2(text, at, 3); };
  return nullptr;
}

}  // namespace deeplora
