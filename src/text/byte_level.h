// GPT-2's visible stand-ins for bytes.
#pragma once

#include <array>
#include <optional>

#include "text/aligned_text.h"

namespace deeplora {

/// Printable Latin-1 characters stand for themselves, the others, in order, are U+0100 and following. Source:
/// bytes_to_unicode in GPT-2's encoder.py.
const std::array<char32_t, 256>& byte_characters();
/// The byte that a character stands for.
std::optional<char> byte_of(char32_t code);
/// Appends the characters of every byte.
void append_byte_characters(std::string& out, std::string_view bytes);
/// Replaces every byte by its character.
void to_byte_characters(AlignedText& text);

}  // namespace deeplora
