// Text made safe for HTML and SVG.
#pragma once

#include <string>
#include <string_view>

namespace deeplora {

/// Text for content and attributes: markup escaped, bytes that are not UTF-8 and control characters replaced
/// by U+FFFD.
std::string escape_html(std::string_view text);

}  // namespace deeplora
