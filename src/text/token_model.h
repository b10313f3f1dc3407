// What makes tokens of the pieces of a text: tokenizer.json's "model".
#pragma once

#include <memory>
#include <vector>

#include "text/component.h"
#include "text/vocabulary.h"

namespace deeplora {

/// One token; bytes begin..end of the piece it was made of.
struct ModelToken {
  int64_t id = -1;
  uint32_t begin = 0, end = 0;
};

/// Immutable and safe to use from several threads.
class TokenModel {
 public:
  virtual ~TokenModel() = default;
  /// Appends the tokens of `piece` (valid UTF-8, not empty). Throws Error where the library gives up: an unknown piece
  /// and no unknown token.
  virtual void tokenize(std::string_view piece, std::vector<ModelToken>& out) const = 0;
  /// Like tokenize(), ids alone.
  virtual void append_ids(std::string_view piece, std::vector<int64_t>& out) const;
  /// "wordpiece", "bpe", "unigram" or "wordlevel".
  virtual std::string kind() const = 0;
  /// How many pieces the library counts.
  virtual int64_t count() const { return vocabulary_.count(); }

  /// True when the library shows a token of this id by the text it stands for, not by its piece.
  virtual bool shows_own_text(int64_t /*id*/) const { return false; }

  const Vocabulary& vocabulary() const { return vocabulary_; }

 protected:
  /// The id of `name`; throws Error, naming it, when the vocabulary lacks it.
  int64_t need(const std::string& name) const;

  Vocabulary vocabulary_;
};

/// Reads a model; files of older libraries leave the type out, so it is told from the other keys then. Throws Error
/// that names what is not known.
std::unique_ptr<TokenModel> read_token_model(const nlohmann::json& model, const std::string& where);

// One per file.
std::unique_ptr<TokenModel> read_bpe(const Component& model);
std::unique_ptr<TokenModel> read_unigram(const Component& model);

/// "model.vocab" of all but Unigram: an object piece -> id.
void read_vocabulary(const Component& model, Vocabulary& out);
/// The piece "<0x0A>" of a byte.
std::string byte_piece(unsigned char byte);

}  // namespace deeplora
