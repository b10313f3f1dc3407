// Text -> token ids, one interface for every kind of tokenizer. Free of LibTorch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

/// Code points begin..end of a text.
struct TokenOffsets {
  int64_t begin = 0, end = 0;
  bool operator==(const TokenOffsets&) const = default;
};

/// One text or pair of texts as a model takes it, special tokens included.
struct Encoding {
  std::vector<int64_t> ids;
  std::vector<int64_t> type_ids;  ///< same length; 0 for the first text, 1 for the second where the model uses it
  std::vector<TokenOffsets>
      offsets;  ///< same length when asked for: where each token stands in its own text; 0, 0 for special tokens
  bool truncated = false;  ///< some tokens did not fit into max_length
};

/// Special token ids; -1 where the tokenizer has none.
struct SpecialIds {
  int64_t pad = -1, unk = -1, cls = -1, sep = -1, mask = -1, bos = -1, eos = -1;
};

/// Immutable and safe to use from several threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Ids of `text` (and `pair`) with special tokens, cut to max_length (0: no limit) by Hugging Face's
  /// "longest_first" rule. Throws Error when text is not valid UTF-8 or max_length cannot hold the special tokens.
  virtual Encoding encode(std::string_view text, std::optional<std::string_view> pair, int64_t max_length,
                          bool with_offsets = false) const = 0;
  /// Ids of a text that a model is to write, without a limit: translators mark it with its own language, or cut it by a
  /// model of its own.
  virtual Encoding encode_target(std::string_view text) const { return encode(text, std::nullopt, 0); }
  /// Ids of `text` alone, without special tokens.
  virtual std::vector<int64_t> tokenize(std::string_view text) const = 0;
  /// Ids of one word of a text that is cut into words already, without special tokens: as transformers encodes it with
  /// is_split_into_words=True, and add_prefix_space=True where the tokenizer is byte-level.
  virtual std::vector<int64_t> tokenize_word(std::string_view word) const { return tokenize(word); }
  /// The special tokens around the ids of one text, which begin at `begin`. Throws Error for a tokenizer that knows
  /// whole texts alone.
  virtual Encoding surround(std::vector<int64_t> ids, size_t& begin) const;
  /// Text of ids; skip_special leaves special tokens out.
  virtual std::string decode(std::span<const int64_t> ids, bool skip_special) const = 0;

  virtual int64_t vocabulary_size() const = 0;
  virtual SpecialIds special() const = 0;
  /// The piece of an id ("##ing"), for messages.
  virtual std::string piece(int64_t id) const = 0;
  /// "wordpiece", "bpe", "unigram", "wordlevel" or "marian".
  virtual std::string kind() const = 0;
};

/// Tokenizer files by name ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "spiece.model"...), from a folder
/// or an archive.
using TokenizerFiles = std::function<std::optional<std::string>(const std::string& name)>;

/// Language codes of translators; empty: those of the tokenizer's own configuration.
struct Languages {
  std::string source, target;
};

/// The tokenizer described by the files, or nullptr when none of the known names is there.
/// Throws Error when files are there but cannot be used (what is wrong and in which file), or when languages are named
/// that it does not know.
std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerFiles& files, const Languages& languages = {});

/// The file names make_tokenizer may ask for; exports carry them along.
std::vector<std::string> tokenizer_file_names();

}  // namespace deeplora
