// Rows as JSON: an object a line, or one list of objects.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

#include "text/row_errors.h"
#include "text/table.h"

namespace deeplora {

/// One object a line; blank lines are skipped. A text that is one object over several lines is one row. What cannot be
/// read goes into `errors`.
std::vector<Row> read_json_lines(const std::filesystem::path& file, std::string_view text, RowErrors& errors);

/// [{...}, {...}]; every row is named by the line that it begins in. What cannot be read goes into `errors`; throws
/// Error where the list itself is broken.
std::vector<Row> read_json_list(const std::filesystem::path& file, std::string_view text, RowErrors& errors);

}  // namespace deeplora
