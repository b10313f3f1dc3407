// The first lines of a delimited text, cut: what its layout is told from. Free of LibTorch.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

/// What a field holds.
enum class CellKind { missing, number, text };
CellKind cell_of(std::string_view field);

/// A text's first lines.
struct TableLook {
  std::string separator;
  std::vector<std::vector<std::string>> records;  ///< at least one, at most 1000

  /// Fields of the widest of the first two lines: a header may be one short.
  size_t width() const;
  /// What record `r` holds in field `f`; missing beyond its end.
  CellKind cell(size_t r, size_t f) const;
};

/// `least`: fields that a line has, for the choice of the separator. Throws Error when there is no line, or the first
/// one cannot be cut.
TableLook look_at(const std::filesystem::path& file, std::string_view text, const std::string& separator, size_t least);

/// Names that columns of ratings usually have, in the form of plain_name().
const std::vector<std::string>& usual_row_names();
const std::vector<std::string>& usual_col_names();
const std::vector<std::string>& usual_value_names();
const std::vector<std::string>& usual_time_names();

/// In lower case, without spaces, - and _.
std::string plain_name(std::string_view name);

/// The first of `names` that is one of `usual`, or -1.
int usual_column(const std::vector<std::string>& names, const std::vector<std::string>& usual);

/// "a | b | c", long fields cut.
std::string shown_fields(const std::vector<std::string_view>& fields);

}  // namespace deeplora
