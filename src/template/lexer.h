// A template's text as tokens, as Jinja's lexer cuts it with trim_blocks and lstrip_blocks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "template/syntax.h"

namespace deeplora::jinja {

struct Token {
  enum class Kind { data, output_begin, output_end, block_begin, block_end, name, text, integer, real, symbol, end };
  Kind kind;
  Place place;
  std::string text;  ///< data, a name, a text's value or a symbol's characters
  int64_t integer = 0;
  double real = 0;
};

/// Throws Error with line and column for text that is none: open comments, unknown characters, brackets that do not
/// pair.
std::vector<Token> tokens_of(std::string_view source);

}  // namespace deeplora::jinja
