// Mistakes in rows of data files: the same mistake in many rows is said once, with the first place and the number.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

class RowErrors {
 public:
  /// `source` is "file:line", `message` what is wrong there; equal messages are one mistake.
  void add(const std::string& source, const std::string& message);
  /// The same of what an exception said; a leading "source: " is no part of the message.
  void add_what(const std::string& source, std::string_view what);
  bool empty() const { return mistakes_.empty(); }
  /// Rows that were added.
  size_t rows() const { return rows_; }
  /// "file:2: no text (and 4 more rows, the last file:9); file:3: ..."
  std::string text() const;
  /// Throws Error "prefix: ..." if anything was added.
  void throw_if_any(std::string_view prefix = {}) const;

 private:
  struct Mistake {
    std::string message, first, last;
    size_t rows = 0;
  };
  std::vector<Mistake> mistakes_;        ///< in the order in which they were met
  std::map<std::string, size_t> index_;  ///< message -> place in mistakes_
  size_t rows_ = 0;
};

/// The text, or its first `most` bytes at most (whole characters of UTF-8) with "..." behind.
std::string shortened(std::string text, size_t most);

}  // namespace deeplora
