// WordPiece: BERT, DistilBERT, ELECTRA, MPNet and their like. Equal to Hugging Face's BertTokenizerFast.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "text/normalizer.h"
#include "text/piece_tokenizer.h"
#include "text/tokenizer_json.h"

namespace deeplora {

struct WordPieceOptions {
  std::string prefix = "##";      ///< of a piece that continues a word
  std::string unknown = "[UNK]";  ///< a word that cannot be made of pieces
  int64_t longest_word = 100;     ///< code points; a longer word is unknown
  std::optional<std::string> join_prefix =
      "##";                  ///< decode joins such a piece to the one before; none: all apart
  bool clean_pieces = true;  ///< decode drops the space before a piece of punctuation
  bool clean_text = false;   ///< decode also drops spaces before "n't" and the like, in the whole text
};

/// Words are what stands between white space and punctuation; each is cut into the longest pieces of the
/// vocabulary, from its beginning. Source: BERT's tokenization.py and the tokenizers library.
class WordPieceTokenizer final : public PieceTokenizer {
 public:
  /// Throws Error when the vocabulary lacks options.unknown.
  WordPieceTokenizer(TokenizerParts parts, WordPieceOptions options);
  std::string kind() const override { return "wordpiece"; }

 protected:
  void append_ids(std::u32string_view text, bool at_start, std::vector<int64_t>& ids) const override;
  std::string join_pieces(const std::vector<int64_t>& ids) const override;

 private:
  void append_word(std::u32string_view word, std::vector<int64_t>& ids) const;

  WordPieceOptions options_;
  int64_t unknown_id_;
};

/// From tokenizer.json. Throws Error when it uses a component that is not supported, naming it.
std::unique_ptr<Tokenizer> make_wordpiece(const JsonFile& tokenizer, const TokenizerConfig& config);

/// From vocab.txt (a piece a line, its line number the id) and what tokenizer_config.json says.
std::unique_ptr<Tokenizer> make_wordpiece(const std::string& vocab_txt, const TokenizerConfig& config);

}  // namespace deeplora
