// Unicode as Hugging Face's tokenizers library sees it: code points, character classes, normal forms, lower case,
// graphemes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

/// Throws Error "<what> is not valid UTF-8 (byte N)".
void check_utf8(std::string_view text, std::string_view what = "text");
/// Code points of UTF-8. Throws Error as check_utf8.
std::u32string to_code_points(std::string_view utf8, std::string_view what = "text");

/// Appends one code point as UTF-8.
void append_utf8(std::string& out, char32_t code);
std::string to_utf8(std::u32string_view codes);

/// Bytes of the character that begins with `lead`, in valid UTF-8.
inline size_t utf8_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}
/// The code point at `at` of valid UTF-8.
inline char32_t utf8_at(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[at + i])); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return lead;
  if (lead < 0xE0) return (lead & 0x1F) << 6 | (byte(1) & 0x3F);
  if (lead < 0xF0) return (lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
  return (lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
}
/// Where the character before `at` (> 0) begins, in valid UTF-8.
inline size_t utf8_before(std::string_view text, size_t at) {
  do --at;
  while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}
/// Code points of valid UTF-8.
size_t utf8_count(std::string_view text);

/// Replaces every `from` (not empty), left to right, as str.replace in Python.
void replace_all(std::string& text, std::string_view from, std::string_view to);

/// Bytes that belong to no valid character become U+FFFD, one for every maximal part of one, as Rust and Python decode.
std::string replace_broken(const std::string& bytes);

/// What is asked of single code points.
enum class CharClass : uint16_t {
  space = 1,            ///< the Unicode property White_Space
  removed = 2,          ///< what BERT's text cleaning removes
  chinese = 4,          ///< the CJK ideographs that BERT sets apart with spaces
  mark = 8,             ///< non-spacing marks, which BERT strips as accents
  combining_mark = 16,  ///< what StripAccents removes
  punctuation = 32,     ///< ASCII punctuation and symbols, and the Unicode punctuation that BERT splits at
  letter = 64,          ///< class L of regular expressions
  number = 128,         ///< class N of regular expressions
  digit = 256,          ///< what the Digits pre-tokenizer splits at: class N of a newer Unicode
  word = 512,           ///< \w of added tokens and of the Whitespace pre-tokenizer
  joins_before = 1024,  ///< stands in one grapheme with a letter before it
};
bool is_class(char32_t code, CharClass wanted);
inline bool is_space(char32_t code) {
  if (code < 0x80) return code == ' ' || (code >= 0x9 && code <= 0xD);
  return is_class(code, CharClass::space);
}
inline bool is_punctuation(char32_t code) { return is_class(code, CharClass::punctuation); }

/// The script of UnicodeScripts, from 1; 0 for what belongs to the script before it.
int script_of(char32_t code);

/// One code point of a rewritten text. change 0: stands for the next code point of the text before; 1: is new, and
/// belongs to the one before it; -n: stands for the next code point, and the n after that are gone.
struct Change {
  char32_t code;
  int32_t change;
};

/// Lower case, free of context (a final sigma stays U+03C3).
void append_lowercase(std::vector<Change>& out, char32_t code);

enum class NormalForm { nfc, nfd, nfkc, nfkd };
/// The normal form of valid UTF-8.
std::vector<Change> normal_form(std::string_view text, NormalForm form);

/// Where the grapheme that begins at `at` ends (extended grapheme clusters).
size_t grapheme_end(std::string_view text, size_t at);

}  // namespace deeplora
