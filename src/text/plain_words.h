// A text cut into words where no file has done so.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace deeplora {

/// Words of a text and where each stands in it, in code points.
struct PlainWords {
  std::vector<std::string> words;
  std::vector<TokenOffsets> offsets;
};

/// Cut at white space, which goes, and at punctuation, each of which is a word of its own: as the tokenizers library's
/// BertPreTokenizer does. Throws Error for a text that is not valid UTF-8.
PlainWords plain_words(std::string_view text);

/// The offsets of words that are written with one blank between them.
std::vector<TokenOffsets> joined_offsets(const std::vector<std::string>& words);

/// Code points offsets.begin..end of a text.
std::string_view slice(std::string_view text, const TokenOffsets& offsets);

}  // namespace deeplora
