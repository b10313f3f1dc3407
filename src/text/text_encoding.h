// Texts of other encodings as UTF-8.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

/// The encodings that decoded_text() knows: utf-8, latin-1, cp1252.
const std::vector<std::string>& known_encodings();

/// `bytes` as UTF-8. latin-1: every byte is the character of its number; cp1252: Windows' Western table, whose five
/// unassigned bytes are the control characters of their numbers, as browsers read them. utf-8 gives the bytes back
/// unchecked. Throws Error for unknown encodings.
std::string decoded_text(std::string bytes, std::string_view encoding);

}  // namespace deeplora
