// Rows that bring token ids along instead of text. Free of LibTorch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/table.h"

namespace deeplora {

/// The tokens of such a row without the padding at its ends. A row that begins with padding is turned: positions count
/// from its first token, as they do in a row with the padding behind.
struct RowIds {
  std::vector<int64_t> input_ids;
  std::vector<int64_t> attention_mask;  ///< empty: all ones; else as long as input_ids, 1 at both ends
  std::vector<int64_t> token_type_ids;  ///< empty: none given
  std::vector<int64_t> labels;          ///< empty: none given, or not asked for
};

/// Reads input_ids, attention_mask, token_type_ids and, `with_labels`, a label for each token (-100: not learnt).
/// Throws Error with row.source for: no list of whole numbers from 0, an empty one, lists of other lengths than
/// input_ids, a mask of anything but 0 and 1 or without any 1, a label where the mask hides the token.
RowIds read_row_ids(const Row& row, bool with_labels);

/// The list of a column; `ignored` allows -100 among whole numbers from 0. Throws Error with row.source.
std::vector<int64_t> whole_numbers(const Row& row, const std::string& column, bool ignored = false);

/// What is to be said of rows that begin with padding: one sentence, or "".
std::string turned_rows(const std::vector<Row>& rows);

}  // namespace deeplora
