// Where special tokens stand around one text or two, and how texts are cut to fit: tokenizer.json's "post_processor".
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "text/component.h"
#include "text/tokenizer.h"

namespace deeplora {

/// One place of a layout: the first text, the second, or a special token.
struct LayoutPiece {
  enum class Kind { first, second, special } kind = Kind::first;
  int64_t id = -1;  ///< of the special token
  int64_t type_id = 0;
};

/// Tokens of one text before the layout.
struct TokenSequence {
  std::vector<int64_t> ids;
  std::vector<TokenOffsets> offsets;  ///< as long as ids when with_offsets, else empty
  std::vector<std::string> texts;     ///< of the tokens, as the library shows them; as long as offsets
  bool with_offsets = false;
};

/// The layout of one text and of two, e.g. BERT's [CLS] A [SEP] and [CLS] A [SEP] B [SEP].
struct SequenceTemplate {
  std::vector<LayoutPiece> single{{LayoutPiece::Kind::first, -1, 0}};
  std::vector<LayoutPiece> pair{{LayoutPiece::Kind::first, -1, 0}, {LayoutPiece::Kind::second, -1, 1}};
  bool cut_left = false;  ///< texts lose their beginning instead of their end
  /// Offsets leave white space out; one entry per processor that does so, with its add_prefix_space.
  std::vector<bool> trims;

  /// Special tokens around one text or two.
  int64_t special_count(bool two) const;
  /// Puts the texts in place; the longest is cut first until all fits into max_length (0: no limit), by the
  /// rule of the tokenizers library. Throws Error when max_length is negative or has no room for the special
  /// tokens.
  Encoding assemble(TokenSequence first, std::optional<TokenSequence> second, int64_t max_length) const;
};

/// Reads TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel, a Sequence with one layout in it, or null.
/// Throws Error that names what is not known.
SequenceTemplate read_template(const nlohmann::json& value, const std::string& where);

}  // namespace deeplora
