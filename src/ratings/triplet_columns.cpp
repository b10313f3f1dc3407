#include "ratings/triplet_columns.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "core/error.h"
#include "ratings/delimited.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

std::optional<size_t> index_of(const std::string& word) {
  size_t value = 0;
  const auto [end, failed] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (word.empty() || failed != std::errc() || end != word.data() + word.size()) return std::nullopt;
  return value;
}

bool holds(const std::vector<std::string>& names, const std::string& wanted) {
  return std::find(names.begin(), names.end(), wanted) != names.end();
}

class ColumnFinder {
 public:
  ColumnFinder(const fs::path& file, const TableLook& look, const RatingsFormat& format, const KnownIds* known)
      : file_(file), look_(look), format_(format), known_(known) {}

  TripletColumns find() {
    const auto& first = look_.records[0];
    columns_.count = first.size();
    columns_.header = has_header();
    if (columns_.header) names_ = first;
    columns_.row = place("row", format_.row, usual_row_names(), 0, true);
    columns_.col = place("col", format_.col, usual_col_names(), 1, true);
    columns_.value = with_values() ? place("value", format_.value, usual_value_names(), 2, true) : -1;
    columns_.time = with_values() ? place("time", format_.time, usual_time_names(), fourth_is_time() ? 3 : -1, false)
                                  : time_of_pairs();
    errors_.throw_if_any();
    const bool twice = columns_.row == columns_.col || columns_.row == columns_.value || columns_.col == columns_.value;
    check(!twice, file_.string(), ": row, col and value must be different columns, found columns ", columns_.row, ", ",
          columns_.col, " and ", columns_.value);
    say_guesses();
    return columns_;
  }

 private:
  bool with_values() const { return known_ == nullptr; }

  bool has_header() {
    check(format_.header == "auto" || format_.header == "yes" || format_.header == "no",
          "completion.header: expected auto, yes or no, found '", format_.header, "'");
    if (format_.header != "auto") return format_.header == "yes";
    const auto& first = look_.records[0];
    for (const std::string* wanted : {&format_.row, &format_.col, &format_.value, &format_.time})
      if (!wanted->empty() && !index_of(*wanted) && holds(first, *wanted)) return true;
    if (!with_values()) return names_pairs();
    const size_t value = index_of(format_.value).value_or(2);
    return value < first.size() && look_.cell(0, value) == CellKind::text;
  }

  /// Whether the first line of pairs, which has no value to tell it by, holds names.
  bool names_pairs() {
    const auto& first = look_.records[0];
    if (usual_column(first, usual_row_names()) >= 0 && usual_column(first, usual_col_names()) >= 0) return true;
    const bool trained = !known_->row_column.empty() && !known_->col_column.empty();
    if (trained && holds(first, known_->row_column) && holds(first, known_->col_column)) return true;
    if (look_.records.size() < 2 || !known_->rows || !known_->cols) return false;
    const auto parts = [&](size_t r) {
      const auto field = [&](const std::string& wanted, size_t otherwise) {
        const size_t f = index_of(wanted).value_or(otherwise);
        return f < look_.records[r].size() ? look_.records[r][f] : std::string();
      };
      return std::pair{field(format_.row, 0), field(format_.col, 1)};
    };
    const auto [row, col] = parts(0);
    if (known_->rows->find(row) >= 0 || known_->cols->find(col) >= 0) return false;
    bool numbers = cell_of(row) == CellKind::text && cell_of(col) == CellKind::text, all_known = true;
    for (size_t r = 1; r < look_.records.size(); ++r) {
      const auto [next_row, next_col] = parts(r);
      numbers &= cell_of(next_row) == CellKind::number && cell_of(next_col) == CellKind::number;
      all_known &= known_->rows->find(next_row) >= 0 && known_->cols->find(next_col) >= 0;
    }
    check(numbers || !all_known, file_.string(), ":1: '", row, "' and '", col,
          "' are not known, but all other ids are: names of the columns, or a pair? "
          "set completion.header: yes or no (--set)");
    return numbers;
  }

  /// Of four columns the last one, where it can be read as a time and is nothing else (pandas puts a column of numbers
  /// before all others).
  bool fourth_is_time() const {
    const auto& last = look_.records.back();
    const bool taken = columns_.row == 3 || columns_.col == 3 || columns_.value == 3;
    return columns_.count == 4 && !taken && last.size() == 4 && as_time(last[3]).has_value();
  }

  /// Pairs may have times or not: only what is named so is one.
  int time_of_pairs() const {
    const auto named = std::find(names_.begin(), names_.end(), format_.time);
    if (!format_.time.empty() && named != names_.end()) return static_cast<int>(named - names_.begin());
    if (const auto index = index_of(format_.time); index && *index < columns_.count) return static_cast<int>(*index);
    return usual_column(names_, usual_time_names());
  }

  int place(const char* key, const std::string& wanted, const std::vector<std::string>& usual, int fallback,
            bool needed) {
    if (!wanted.empty()) {
      const auto named = std::find(names_.begin(), names_.end(), wanted);
      if (named != names_.end()) return static_cast<int>(named - names_.begin());
      const auto index = index_of(wanted);
      if (index && *index < columns_.count) return static_cast<int>(*index);
      errors_.add(
          file_.string(), ": no column '", wanted, "' (completion.columns.", key, ")", did_you_mean(wanted, names_),
          "; ",
          columns_.header ? cat("columns there: ", join(names_)) : cat("no header, ", columns_.count, " columns"));
      return -1;
    }
    if (known_) {
      const std::string& trained = key == std::string_view("row") ? known_->row_column : known_->col_column;
      const auto named = std::find(names_.begin(), names_.end(), trained);
      if (!trained.empty() && named != names_.end()) return static_cast<int>(named - names_.begin());
    }
    if (columns_.header)
      if (const int found = usual_column(names_, usual); found >= 0) return found;
    if (fallback >= static_cast<int>(columns_.count) && needed)
      errors_.add(file_.string(), ": a line has ", columns_.count, columns_.count == 1 ? " column" : " columns",
                  ", expected row, column", with_values() ? ", value" : "", "; found '",
                  join(look_.records[0], " | ", 6), "' (completion.separator says where a line is cut)");
    if (fallback >= static_cast<int>(columns_.count) || fallback < 0) return -1;
    if (columns_.header) by_place_.push_back(cat(key, " '", names_[static_cast<size_t>(fallback)], "'"));
    return fallback;
  }

  /// Names that say nothing: what they were taken for.
  void say_guesses() {
    const bool only_one_left = by_place_.size() == 1 && with_values() && columns_.count == 3;
    if (by_place_.empty() || only_one_left) return;
    columns_.remarks.push_back(cat(file_.string(),
                                   ": the first line was taken as names of columns, and by their places as ",
                                   join(by_place_), " (completion.header and completion.columns say otherwise)"));
  }

  const fs::path& file_;
  const TableLook& look_;
  const RatingsFormat& format_;
  const KnownIds* known_;  ///< of pairs; null for triplets
  TripletColumns columns_;
  std::vector<std::string> names_, by_place_;
  Errors errors_;
};

}  // namespace

std::string TripletColumns::name(const TableLook& look, int column) const {
  return header && column >= 0 ? look.records[0][static_cast<size_t>(column)] : "";
}

TripletColumns triplet_columns(const fs::path& file, const TableLook& look, const RatingsFormat& format) {
  return ColumnFinder(file, look, format, nullptr).find();
}

TripletColumns pair_columns(const fs::path& file, const TableLook& look, const RatingsFormat& format,
                            const KnownIds& known) {
  return ColumnFinder(file, look, format, &known).find();
}

}  // namespace deeplora
