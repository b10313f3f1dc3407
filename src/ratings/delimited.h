// Lines cut into fields without copying them: the fast path of the ratings reader. Free of LibTorch.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/text_lines.h"

namespace deeplora {

/// Cuts lines at ",", "\t", ";", "::" or (" ") runs of spaces and tabs.
class FieldCutter {
 public:
  explicit FieldCutter(std::string separator) : separator_(std::move(separator)) {}
  /// Fields of a line, spaces around them removed, quotes too ("" inside quotes is one). Valid until the next call, and
  /// while the line lives. False when a quote is opened and not closed on the line.
  bool cut(std::string_view line, std::vector<std::string_view>& fields);
  const std::string& separator() const { return separator_; }

 private:
  bool cut_quoted(std::string_view line, std::vector<std::string_view>& fields);
  /// Takes a quoted field off `rest` into `value`; false when the quote is not closed or something else follows it.
  bool take_quoted(std::string_view& rest, std::string& value) const;
  bool at_separator(std::string_view rest) const;
  void skip_padding(std::string_view& rest) const;
  std::string separator_;
  std::vector<std::string> unquoted_;
};

/// The whole of `field` as a number (a leading + is fine; inf and nan are numbers), or nothing.
std::optional<double> as_number(std::string_view field);

/// "", NA, N/A, NaN, null, None, "-" in any case: a value that is not there.
bool is_missing(std::string_view field);

/// A number, or a date "2005-09-06" with an optional time of day ("T12:30", " 12:30:05.25") and, after that, an
/// optional distance from Greenwich ("Z", "+02:00", " -0530", "+02"; absent: none), in seconds since 1970; nothing for
/// anything else.
std::optional<double> as_time(std::string_view field);

}  // namespace deeplora
