// Rows of words and a tag for each. Free of LibTorch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/table.h"
#include "text/tokenizer.h"

namespace deeplora {

/// The words of a row and where they stand.
struct RowWords {
  std::string source;                 ///< file:line
  std::string text;                   ///< as it was given; of a list the words with one blank between them
  bool from_text = false;             ///< it was given as a text, and cut here
  std::vector<std::string> words;     ///< at least one
  std::vector<TokenOffsets> offsets;  ///< of each in `text`, in code points
  std::vector<int64_t> tags;          ///< class of each word; empty where the row has none
};

/// A list of texts in a column, or the same list in JSON as a table's cell holds it; numbers are taken as they are
/// written. Throws Error with row.source for anything else, `what` naming it: "a list of words".
std::vector<std::string> text_list(const Row& row, const std::string& column, const char* what);

/// The words of a column: of a list, or, unless `list` is asked for, of a text (text/plain_words.h). Throws Error with
/// row.source where there are none.
RowWords read_row_words(const Row& row, const std::string& column, bool list);

/// The tags of a column, as many as there are words, white space at their ends aside. Throws Error with row.source for
/// another number of them, and for an empty one.
std::vector<std::string> read_row_tags(const Row& row, const std::string& column, size_t words,
                                       const std::string& words_column);

}  // namespace deeplora
