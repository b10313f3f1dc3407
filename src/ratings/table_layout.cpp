#include "ratings/table_layout.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "ratings/delimited.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

/// Columns up to which a table of numbers alone may be triplets with further columns.
constexpr size_t kMostWithHeader = 20, kMostWithoutHeader = 9;

std::optional<double> number_in(const TableLook& look, size_t r, size_t f) {
  return look.cell(r, f) == CellKind::number ? as_number(look.records[r][f]) : std::nullopt;
}

/// Smallest and largest number of the records behind the first, their first field left out.
std::pair<double, double> range_of_body(const TableLook& look) {
  std::pair<double, double> out{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
  for (size_t r = 1; r < look.records.size(); ++r)
    for (size_t f = 1; f < look.records[r].size(); ++f)
      if (const auto value = number_in(look, r, f)) out = {std::min(out.first, *value), std::max(out.second, *value)};
  return out;
}

/// Whole numbers, none missing, none twice; and rising, or more than ratings could be, or beyond the ratings' range.
bool like_ids(const std::vector<std::optional<double>>& values, std::pair<double, double> range) {
  constexpr size_t kMany = 10;
  std::set<double> seen;
  bool rising = true, outside = false;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!values[i] || *values[i] < 0 || *values[i] != std::floor(*values[i]) || !seen.insert(*values[i]).second)
      return false;
    rising &= i == 0 || *values[i] > *values[i - 1];
    outside |= *values[i] < range.first || *values[i] > range.second;
  }
  return values.size() > 1 && (rising || outside || values.size() > kMany);
}

class LayoutFinder {
 public:
  LayoutFinder(const fs::path& file, const TableLook& look, const RatingsFormat& format)
      : file_(file), look_(look), format_(format) {
    const auto& first = look.records[0];
    const auto range = range_of_body(look);
    std::vector<std::optional<double>> line, column;
    for (size_t f = 0; f < first.size(); ++f) line.push_back(number_in(look, 0, f));
    for (size_t r = 1; r < look.records.size(); ++r) column.push_back(number_in(look, r, 0));
    body_ = look.records.size() > 1;
    line_of_ids_ = body_ && like_ids(line, range);
    rest_of_ids_ = body_ && like_ids({line.begin() + 1, line.end()}, range);
    rest_beyond_ = std::all_of(line.begin() + 1, line.end(),
                               [&](const auto& v) { return v && (*v < range.first || *v > range.second); });
    column_of_ids_ = like_ids(column, range);
    if (!line.empty()) column.insert(column.begin(), line[0]);
    whole_column_of_ids_ = like_ids(column, range);
    corner_ = look.cell(0, 0);
    std::set<std::string> names;
    possible_names_ = first.size() > 1;
    for (size_t f = 1; f < first.size(); ++f) {
      text_beyond_ |= look.cell(0, f) == CellKind::text;
      possible_names_ &= look.cell(0, f) != CellKind::missing && names.insert(first[f]).second;
    }
    // Names without one above the first column; fewer fields alone are a mistake in the file.
    short_ = body_ && (text_beyond_ || corner_ == CellKind::text || line_of_ids_);
    for (size_t r = 1; r < look.records.size(); ++r) {
      short_ &= look.records[r].size() == first.size() + 1;
      names_ |= look.cell(r, 0) == CellKind::text;
      blank_in_column_ |= look.cell(r, 0) == CellKind::missing;
    }
    usual_corner_ = usual_column({first[0]}, usual_row_names()) >= 0;
  }

  TableLayout find() {
    check_words();
    if (format_.format == "triplets") return {};
    const bool named = !format_.row.empty() || !format_.col.empty() || !format_.value.empty() || !format_.time.empty();
    check(format_.format != "dense" || !named,
          "completion.columns: the columns of triplets; nothing with completion.format: dense");
    if (format_.format == "auto" && (named || look_.separator == "::" || triplet_names() || narrow_triplets()))
      return {};
    TableLayout out{.dense = true};
    out.header = dense_header();
    out.short_header = out.header && short_;
    out.counted = !out.header && counts_ratings();
    out.row_names = !out.counted && row_names(out);
    if (format_.format == "auto" && !out.counted) refuse_likely_triplets(out);
    return out;
  }

 private:
  void check_words() const {
    const auto one_of = [](const char* key, const std::string& word) {
      check(word == "auto" || word == "yes" || word == "no", "completion.", key, ": expected auto, yes or no, found '",
            word, "'");
    };
    one_of("header", format_.header);
    one_of("row_names", format_.row_names);
  }

  /// The first line names all three parts.
  bool triplet_names() const {
    const auto& names = look_.records[0];
    return usual_column(names, usual_row_names()) >= 0 && usual_column(names, usual_col_names()) >= 0 &&
           usual_column(names, usual_value_names()) >= 0;
  }

  /// Three or four columns are triplets, unless the first line's names say otherwise.
  bool narrow_triplets() const {
    if (look_.width() > 4 || (short_ && look_.width() > 2)) return false;
    if (format_.header == "no" || !body_) return no_fractional_ids();
    if (text_beyond_) return triplets_under_names();
    const bool names_over_numbers = corner_ != CellKind::number && possible_names_ && look_.width() > 2;
    if (!names_over_numbers || !distinct_first_column()) return no_fractional_ids();
    if (usual_corner_ || (corner_ == CellKind::missing && rest_of_ids_)) return false;
    if (corner_ == CellKind::text && !names_ && rest_of_ids_)
      refuse_format("a dense table whose first line and column are names");
    return true;
  }

  /// "user,tea,milk": is tea a column's name, or the name of all columns' ids?
  bool triplets_under_names() const {
    const auto& names = look_.records[0];
    if (usual_column(names, usual_col_names()) >= 0 || usual_column(names, usual_value_names()) >= 0) return true;
    for (size_t r = 1; r < look_.records.size(); ++r)
      for (size_t f = 1; f < look_.records[r].size(); ++f)
        if (look_.cell(r, f) == CellKind::text) return true;
    if (look_.records.size() > 2 && distinct_first_column())
      refuse_format("a dense table whose first line and column are names");
    return true;
  }

  /// Ids with a fraction are ratings that were taken for ids.
  bool no_fractional_ids() const {
    const size_t begin = format_.header == "yes" || text_beyond_ ? 1 : 0;
    for (size_t r = begin; r < look_.records.size(); ++r)
      for (size_t f = 0; f < 2; ++f)
        if (const auto id = number_in(look_, r, f); id && std::isfinite(*id) && *id != std::floor(*id))
          refuse_format("a dense table");
    return true;
  }

  bool distinct_first_column() const {
    std::set<std::string> seen;
    for (size_t r = 1; r < look_.records.size(); ++r)
      if (look_.cell(r, 0) == CellKind::missing || !seen.insert(look_.records[r][0]).second) return false;
    return true;
  }

  bool dense_header() const {
    if (format_.header != "auto") return format_.header == "yes";
    if (!body_) return text_beyond_;
    if (short_ || text_beyond_) return true;
    if (corner_ == CellKind::text) {
      if (!possible_names_) return false;
      if (usual_corner_ || (rest_of_ids_ && (!names_ || rest_beyond_))) return true;
      if (!names_ || rest_of_ids_) refuse_header();
      return false;
    }
    if (corner_ == CellKind::missing) {
      if (!rest_of_ids_) return false;
      if (!names_ && !column_of_ids_ && !blank_in_column_) refuse_header();
      return names_ || column_of_ids_;
    }
    if (line_of_ids_) refuse_header();
    return false;
  }

  bool row_names(const TableLayout& layout) const {
    if (format_.row_names != "auto") return format_.row_names == "yes";
    if (layout.short_header || names_) return true;
    if (!layout.header) {
      // Without a header a name in the first line shows as well.
      if (corner_ == CellKind::text) return true;
      if (whole_column_of_ids_) refuse_row_names();
      return false;
    }
    if (corner_ == CellKind::missing || usual_corner_ || (corner_ == CellKind::text && !text_beyond_)) return true;
    if (column_of_ids_) refuse_row_names();
    return false;
  }

  /// Every row's first number is how many of the others are rated; real files have a hundred columns and more.
  bool counts_ratings() const {
    if (look_.width() <= 50 || !body_) return false;
    for (size_t r = 0; r < look_.records.size(); ++r) {
      double rated = 0;
      for (size_t f = 1; f < look_.records[r].size(); ++f)
        if (const auto value = number_in(look_, r, f)) rated += *value != 99;
      if (number_in(look_, r, 0) != rated) return false;
    }
    return true;
  }

  /// Ratings are missing here and there; parts of triplets never are. A column of texts is no column of ratings.
  void refuse_likely_triplets(const TableLayout& layout) const {
    for (size_t f = 1; layout.header && f < look_.width(); ++f)
      if (all_texts(f)) refuse_format(cat("a dense table, but column ", f, " holds texts"));
    if (layout.row_names) {
      if (look_.records.size() > 2 && layout.header && !distinct_first_column() && !blank_in_column_)
        refuse_format("a dense table, but two of its rows have one name");
      return;
    }
    if (look_.width() > (layout.header ? kMostWithHeader : kMostWithoutHeader)) return;
    for (size_t r = layout.header ? 1 : 0; r < look_.records.size(); ++r)
      for (size_t f = 0; f < 3; ++f)
        if (look_.cell(r, f) != CellKind::number) return;
    refuse_format(cat("a dense table of ", look_.width(), " columns"));
  }

  bool all_texts(size_t f) const {
    for (size_t r = 1; r < look_.records.size(); ++r)
      if (look_.cell(r, f) != CellKind::text) return false;
    return body_;
  }

  std::string first_line() const {
    const auto& first = look_.records[0];
    return cat("'", join(std::vector<std::string>(first.begin(), first.end()), " | ", 6), "'");
  }
  [[noreturn]] void refuse_header() const {
    fail(file_.string(), ": the first line, ", first_line(),
         ", may be the columns' names or a row's ratings; set completion.header: yes or no");
  }
  [[noreturn]] void refuse_row_names() const {
    fail(file_.string(), ": the first column (", look_.records[1][0],
         look_.records.size() > 2 ? cat(", ", look_.records[2][0]) : "",
         ", ...) may be the rows' names or ratings; set completion.row_names: yes or no");
  }
  [[noreturn]] void refuse_format(const std::string& otherwise) const {
    fail(file_.string(), ": the lines (", first_line(), ", ...) may be row, column, value, or ", otherwise,
         "; set completion.format: triplets (completion.columns.row, col and value name its parts) or dense");
  }

  const fs::path& file_;
  const TableLook& look_;
  const RatingsFormat& format_;
  CellKind corner_ = CellKind::missing;
  bool body_ = false;            ///< there is a line behind the first
  bool text_beyond_ = false;     ///< there is a text in the first line, its first field apart
  bool possible_names_ = false;  ///< no blank in the first line and nothing twice, its first field apart
  bool short_ = false;           ///< the first line holds names, one less than all others have fields
  bool names_ = false, blank_in_column_ = false;    ///< a text, a blank in the first column behind the first line
  bool line_of_ids_ = false, rest_of_ids_ = false;  ///< the first line could be ids, its first field apart
  bool rest_beyond_ =
      false;  ///< all numbers of the first line, its first field apart, are no ratings that any other line holds
  bool column_of_ids_ = false;        ///< the first column could be ids, its first field apart
  bool whole_column_of_ids_ = false;  ///< with its first field
  bool usual_corner_ = false;         ///< the first field is what a column of rows' ids is often called
};

}  // namespace

TableLayout layout_of(const fs::path& file, const TableLook& look, const RatingsFormat& format) {
  return LayoutFinder(file, look, format).find();
}

}  // namespace deeplora
