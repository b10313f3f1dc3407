// What all kinds of tokenizer share: added tokens, the layout of special tokens, the vocabulary.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/added_tokens.h"
#include "text/sequence_template.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace deeplora {

/// The parts of a tokenizer that do not depend on its kind.
struct TokenizerParts {
  Vocabulary vocabulary;  ///< added tokens included
  AddedTokens added;
  SequenceTemplate layout;
  SpecialIds special;
};

/// A tokenizer that splits off added tokens, and leaves the text between them to its derived class.
class PieceTokenizer : public Tokenizer {
 public:
  Encoding encode(std::string_view text, std::optional<std::string_view> pair,
                  int64_t max_length) const final;
  std::vector<int64_t> tokenize(std::string_view text) const final;
  /// Ids without a piece are left out, as in Hugging Face: models have more rows than tokenizers have pieces.
  std::string decode(std::span<const int64_t> ids, bool skip_special) const final;
  /// One more than the largest id, added tokens included.
  int64_t vocabulary_size() const final { return parts_.vocabulary.size(); }
  SpecialIds special() const final { return parts_.special; }
  /// Throws Error when no piece has this id.
  std::string piece(int64_t id) const final;

 protected:
  /// Throws Error when the layout uses an id that has no piece.
  explicit PieceTokenizer(TokenizerParts parts);

  /// Appends the ids of normalised text that holds no added token; at_start: the whole text begins with it.
  virtual void append_ids(std::u32string_view text, bool at_start, std::vector<int64_t>& ids) const = 0;
  /// The text of ids that all have a piece, special ones already left out if they should be.
  virtual std::string join_pieces(const std::vector<int64_t>& ids) const = 0;

  const TokenizerParts& parts() const { return parts_; }

 private:
  TokenizerParts parts_;
};

}  // namespace deeplora
