// What a delimited text's lines are cut at. Free of LibTorch.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace deeplora {

/// The separator that `word` names ("comma", "tab", "semicolon", "space", "::" or the character itself), or, for
/// "auto", the one that cuts the most lines of `text` into the same number of fields, at least `least`; quotes protect
/// what is inside them. Of several that do so alike, those count that leave a column of numbers; spaces only where
/// nothing else fits as well. Throws Error for an unknown word, and, naming completion.separator, when two separators
/// fit alike.
std::string separator_of(const std::filesystem::path& file, const std::string& word, std::string_view text,
                         size_t least);

}  // namespace deeplora
