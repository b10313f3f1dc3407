// Unicode as Hugging Face's tokenizers library sees it: code points, character classes, NFD, NFC and lower
// case.
#pragma once

#include <string>
#include <string_view>

namespace deeplora {

/// Code points of UTF-8. Throws Error "<what> is not valid UTF-8 (byte N)".
std::u32string to_code_points(std::string_view utf8, std::string_view what = "text");

/// Appends one code point as UTF-8.
void append_utf8(std::string& out, char32_t code);
std::string to_utf8(std::u32string_view codes);

/// Replaces every `from` (not empty), left to right, as str.replace in Python.
void replace_all(std::string& text, std::string_view from, std::string_view to);

/// White space: the Unicode property White_Space.
bool is_space(char32_t code);
/// What BERT's text cleaning removes: control, format and private-use characters, U+0000 and U+FFFD.
bool is_removed(char32_t code);
/// The CJK ideographs that BERT sets apart with spaces.
bool is_chinese(char32_t code);
/// Non-spacing marks, which BERT strips as accents.
bool is_mark(char32_t code);
/// ASCII punctuation and symbols, and the Unicode punctuation that BERT splits at.
bool is_punctuation(char32_t code);
/// Classes L and N of regular expressions.
bool is_letter(char32_t code);
bool is_number(char32_t code);
/// What the Digits pre-tokenizer splits at: class N of a newer Unicode.
bool is_digit(char32_t code);
/// \w of regular expressions.
bool is_word(char32_t code);

/// Appends the lower case of `code`, free of context (a final sigma stays U+03C3).
void append_lowercase(std::u32string& out, char32_t code);

/// Canonical decomposition, accents in canonical order.
std::u32string nfd(std::u32string_view codes);
/// Canonical composition.
std::u32string nfc(std::u32string_view codes);

}  // namespace deeplora
