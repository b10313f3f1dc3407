// Regular expressions of tokenizer files, run by Oniguruma as the tokenizers library runs them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

/// Bytes begin..end of a text, and whether an expression matched there.
struct Match {
  uint32_t begin, end;
  bool matched;
};

/// A compiled expression, or a plain text to be found. Safe to use from several threads.
class Expression {
 public:
  /// Throws Error, naming `where`, when the expression is none, or names a set of characters that is not known exactly
  /// here.
  static Expression regex(const std::string& pattern, const std::string& where);
  /// Matches `text` itself.
  static Expression plain(const std::string& text, const std::string& where);

  /// Appends the matches and what stands between them, in order, without gaps; begin and end count from the beginning
  /// of `text` (not empty). Throws Error when matching takes more than kMostRetries steps back.
  void find(std::string_view text, std::vector<Match>& out) const;

  static constexpr unsigned long kMostRetries = 1000000;

 private:
  struct Compiled;
  std::shared_ptr<const Compiled> compiled_;
  std::string plain_;
  size_t (*splitter_)(std::string_view text,
                      size_t at) = nullptr;  ///< end of the match at `at`: of expressions that are known by heart
};

}  // namespace deeplora
