// Tokens found in the text before any model sees it: "[SEP]", "<extra_id_0>", "<|im_start|>".
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace deeplora {

/// One entry of tokenizer.json's "added_tokens".
struct AddedToken {
  int64_t id = -1;
  std::string content;
  bool special = false;      ///< left out by decode(skip_special)
  bool single_word = false;  ///< only where no word character stands beside it
  bool lstrip = false;       ///< takes the white space before it along
  bool rstrip = false;       ///< takes the white space after it along
  bool normalized = true;    ///< looked for in the normalised text, not in the raw one
};

/// A stretch of text without added tokens, or one added token.
struct TextPiece {
  std::u32string text;        ///< normalised; empty for an added token
  std::optional<int64_t> id;  ///< of an added token
  bool at_start = false;      ///< begins where the whole text begins
};

/// Splits text at its added tokens: leftmost first, the longest of those, as the tokenizers library does.
class AddedTokens {
 public:
  using Normalize = std::function<std::u32string(std::u32string_view)>;

  AddedTokens() = default;
  /// `normalize` is applied to every stretch between raw tokens, and to the tokens that are looked for
  /// afterwards.
  AddedTokens(std::vector<AddedToken> tokens, Normalize normalize);

  /// Throws nothing; empty stretches are left out.
  std::vector<TextPiece> split(std::u32string_view text) const;
  bool is_special(int64_t id) const;
  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  struct Pattern {
    std::u32string text;
    size_t token;
  };
  /// First code point -> patterns that begin with it, longest first.
  using Patterns = std::unordered_map<char32_t, std::vector<Pattern>>;
  struct Part {
    size_t begin, end;
    std::optional<size_t> token;
  };

  static void add_pattern(Patterns& patterns, std::u32string text, size_t token);
  static const Pattern* match_at(const Patterns& patterns, std::u32string_view text, size_t at);
  std::vector<Part> find(const Patterns& patterns, std::u32string_view text) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<int64_t, size_t> by_id_;
  Patterns raw_, normalized_;
  Normalize normalize_;
};

}  // namespace deeplora
