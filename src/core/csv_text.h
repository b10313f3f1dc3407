// Lines of CSV as RFC 4180 has them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

/// A field in quotes where it holds a comma, a quote or a line break.
std::string csv_field(std::string_view text);
/// The fields of one line, with its line feed.
std::string csv_line(const std::vector<std::string>& fields);
/// A number with all its digits, "" for one that is not finite.
std::string csv_number(double value);

}  // namespace deeplora
