// What sentencepiece's own reader takes on trust in a model file.
#pragma once

#include <string>
#include <string_view>

namespace deeplora {

/// Throws Error, naming `file`, when the table of character replacements in a serialised ModelProto points outside
/// itself (the library follows it without looking) or a piece holds a NUL (which ends it in the library's trie).
/// Everything else in a model is checked by the library.
void check_sentencepiece_model(const std::string& file, std::string_view model);

}  // namespace deeplora
