// Texts of rows as the model takes them: cells, ids, padding. What every task over texts does with them.
#pragma once

#include "tasks/task.h"

namespace deeplora {

/// The text of a cell, whatever its JSON type. Throws Error naming the row when the column is missing.
std::string text_cell(const Row& row, const std::string& column);

/// A finite number in a cell. Throws Error naming the row; `hint` ends the message.
double number_cell(const Row& row, const std::string& column, std::string_view hint);

/// The row's own input_ids, cut to max_length.
Example encode_ids(const Row& row, int64_t max_length);

/// A text, or a pair of texts that are read together, cut to max_length. Throws Error naming the row and `column`.
Example encode_text(const Row& row, const std::string& column, const std::string& text,
                    const std::optional<std::string>& pair, const Tokenizer* tokenizer, int64_t max_length);

/// The examples' ids, padded at the right to [B, T]; no labels, and nothing of Example::others.
Batch pad_texts(std::span<const Example* const> examples, int64_t pad_id);

/// Rows of which something is said, by their number and the first of them.
struct Remark {
  size_t count = 0;
  std::string first;

  void add(const Row& row) {
    if (count++ == 0) first = row.source;
  }
  /// "3 of 1,204 rows have an empty text, the first at rows.csv:7"; "" for none.
  std::string said(size_t rows, std::string_view what) const;
};

/// The text in a column, null where there is none.
const std::string* text_in(const Row& row, const std::string& column);

/// Rows with an empty text in one of the columns ("" is no column); those with input_ids aside.
Remark empty_texts(const std::vector<Row>& rows, const std::vector<std::string>& columns);

}  // namespace deeplora
