// Tokens of a template to its syntax tree.
#pragma once

#include <string_view>

#include "template/syntax.h"

namespace deeplora::jinja {

/// Throws Error with line and column for a template that is malformed or nests too deep.
SyntaxTree parse_template(std::string_view source);

}  // namespace deeplora::jinja
