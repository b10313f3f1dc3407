// Where special tokens stand around one text or two, and how texts are cut to fit.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "text/tokenizer.h"

namespace deeplora {

/// One place of a layout: the first text, the second, or a special token.
struct LayoutPiece {
  enum class Kind { first, second, special } kind = Kind::first;
  int64_t id = -1;  ///< of the special token
  int64_t type_id = 0;
};

/// The layout of one text and of two, e.g. BERT's [CLS] A [SEP] and [CLS] A [SEP] B [SEP].
struct SequenceTemplate {
  std::vector<LayoutPiece> single{{LayoutPiece::Kind::first, -1, 0}};
  std::vector<LayoutPiece> pair{{LayoutPiece::Kind::first, -1, 0}, {LayoutPiece::Kind::second, -1, 1}};
  bool cut_left = false;  ///< texts lose their beginning instead of their end

  /// Special tokens around one text or two.
  int64_t special_count(bool two) const;
  /// Puts the texts in place; the longest is cut first until all fits into max_length (0: no limit), by the
  /// rule of the tokenizers library. Throws Error when max_length is negative or has no room for the special
  /// tokens.
  Encoding assemble(std::vector<int64_t> first, std::optional<std::vector<int64_t>> second,
                    int64_t max_length) const;
};

/// [CLS] A [SEP] and [CLS] A [SEP] B [SEP], the second text and its end with type id 1.
SequenceTemplate bert_template(int64_t cls, int64_t sep);

}  // namespace deeplora
