// Tokens found in the text before any model sees it: "[SEP]", "<extra_id_0>", "<|im_start|>".
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "text/normalizer.h"
#include "text/pre_tokenizer.h"

namespace deeplora {

/// One entry of tokenizer.json's "added_tokens".
struct AddedToken {
  int64_t id = -1;
  std::string content;
  bool special = false;      ///< left out by decode(skip_special)
  bool single_word = false;  ///< only where no word character stands beside it
  bool lstrip = false;       ///< takes the white space before it along
  bool rstrip = false;       ///< takes the white space after it along
  bool normalized = true;    ///< looked for in the normalised text, by its own normalised form
};

/// Cuts texts at their added tokens: leftmost first, the longest of those, first in the raw text, then in what is left
/// of it, normalised.
class AddedTokens {
 public:
  using Normalize = std::function<void(AlignedText&)>;

  AddedTokens() = default;
  /// The tokens with their ids. `normalize` may be empty; `ignore_special`: special tokens are text like any other.
  /// Throws Error when two tokens, or a token and nothing, become the same by normalisation: which of them is found
  /// would be left to chance.
  AddedTokens(std::vector<AddedToken> tokens, Normalize normalize, bool ignore_special);

  /// The text cut and normalised; with spans when `with_spans`.
  Pieces split(std::string_view text, bool with_spans) const;
  /// The token of an id, or nullptr.
  const AddedToken* find(int64_t id) const;
  /// What a decoder is given for an id: the normalised form where there is one, else the content. nullptr when the id
  /// is none of these.
  const std::string* shown(int64_t id) const;
  /// True when `text` is the content of a special token.
  bool is_special(const std::string& text) const { return special_.contains(text); }
  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  struct Pattern {
    std::string text;
    size_t token;
  };
  /// First byte -> patterns that begin with it, longest first.
  struct Patterns {
    std::vector<std::vector<Pattern>> by_byte;
    bool empty() const { return by_byte.empty(); }
  };

  void add_pattern(Patterns& patterns, std::string text, size_t token) const;
  void find_in(const Patterns& patterns, std::string_view text, uint32_t base, std::vector<Piece>& out) const;

  std::vector<AddedToken> tokens_;
  std::vector<std::string> shown_;
  std::unordered_map<int64_t, size_t> by_id_;
  std::unordered_set<std::string> special_;
  Patterns raw_, normalized_;
  Normalize normalize_;
  bool ignore_special_ = false;
};

}  // namespace deeplora
