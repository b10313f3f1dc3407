#include "ratings/ratings_reader.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <fstream>
#include <utility>

#include "core/files.h"
#include "ratings/delimited.h"
#include "ratings/matrix_files.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMostMistakes = 12;

/// Names that columns of ratings usually have, in lower case without - and _.
const std::vector<std::string> kRowNames{"user", "userid", "users", "row", "u", "uid", "customer", "customerid", "reviewerid", "i"};
const std::vector<std::string> kColNames{"item", "itemid", "items", "movie", "movieid", "col", "column", "isbn", "product", "productid",
                                         "book", "bookid", "joke", "jokeid", "artist", "artistid", "asin", "iid", "j"};
const std::vector<std::string> kValueNames{"rating", "ratings", "value", "score", "stars", "bookrating", "overall", "r", "v", "weight"};
const std::vector<std::string> kTimeNames{"timestamp", "time", "date", "datetime", "unixtime", "unixreviewtime", "t"};

std::string plain_name(std::string_view name) {
  std::string out;
  for (const unsigned char c : name)
    if (c != '_' && c != '-' && c != ' ') out += static_cast<char>(std::tolower(c));
  return out;
}

std::string shown(const std::vector<std::string_view>& fields) {
  std::vector<std::string> out;
  for (const auto& field : fields) out.push_back(field.size() > 40 ? cat(field.substr(0, 40), "...") : std::string(field));
  return join(out, " | ", 12);
}

/// A text's first lines, cut: what the format, the header and the columns are told from.
struct Look {
  std::string separator;
  std::vector<std::vector<std::string>> records;  ///< at most 20
  bool numeric(size_t record, size_t field) const {
    return as_number(records[record][field]).has_value() || is_missing(records[record][field]);
  }
};

Look look_at(const fs::path& file, std::string_view text, const std::string& separator) {
  Look look{separator_of(separator, text), {}};
  FieldCutter cutter(look.separator);
  Lines lines(text);
  std::vector<std::string_view> fields;
  for (std::string_view line; look.records.size() < 20 && lines.next(line);) {
    if (is_blank(line)) continue;
    check(cutter.cut(line, fields), file.string(), ":", lines.number(), ": a quote is opened and not closed on the line");
    look.records.emplace_back(fields.begin(), fields.end());
  }
  check(!look.records.empty(), file.string(), ": the file holds no ratings");
  return look;
}

/// Where a triplet's parts stand; -1: not there.
struct Columns {
  int row = 0, col = 1, value = 2, time = -1;
  bool header = false;
  size_t count = 0;
};

class ColumnFinder {
 public:
  ColumnFinder(const fs::path& file, const Look& look, const RatingsFormat& format, bool with_values)
      : file_(file), look_(look), format_(format), with_values_(with_values) {}

  Columns find() {
    const auto& first = look_.records[0];
    columns_.count = first.size();
    columns_.header = has_header();
    if (columns_.header)
      for (const auto& name : first) names_.push_back(name);
    columns_.row = place("row", format_.row, kRowNames, 0, true);
    columns_.col = place("col", format_.col, kColNames, 1, true);
    columns_.value = with_values_ ? place("value", format_.value, kValueNames, 2, true) : -1;
    const bool fourth_is_time = columns_.count == 4 && as_time(look_.records.back()[std::min<size_t>(3, look_.records.back().size() - 1)]).has_value();
    columns_.time = with_values_ ? place("time", format_.time, kTimeNames, fourth_is_time ? 3 : -1, false) : -1;
    errors_.throw_if_any();
    const bool twice = columns_.row == columns_.col || columns_.row == columns_.value || columns_.col == columns_.value;
    check(!twice, file_.string(), ": row, col and value must be different columns, found columns ", columns_.row, ", ", columns_.col, " and ", columns_.value);
    return columns_;
  }

 private:
  bool has_header() const {
    check(format_.header == "auto" || format_.header == "yes" || format_.header == "no", "completion.header: expected auto, yes or no, found '",
          format_.header, "'");
    if (format_.header != "auto") return format_.header == "yes";
    const auto& first = look_.records[0];
    const auto named = [&](const std::string& wanted) {
      return !wanted.empty() && !index_of(wanted) && std::find(first.begin(), first.end(), wanted) != first.end();
    };
    if (named(format_.row) || named(format_.col) || named(format_.value) || named(format_.time)) return true;
    if (!with_values_) return usual(first, kRowNames) >= 0 && usual(first, kColNames) >= 0;
    const size_t value = index_of(format_.value).value_or(2);
    return value < first.size() && !as_number(first[value]) && !is_missing(first[value]);
  }

  static std::optional<size_t> index_of(const std::string& word) {
    size_t value = 0;
    const auto [end, failed] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (word.empty() || failed != std::errc() || end != word.data() + word.size()) return std::nullopt;
    return value;
  }

  static int usual(const std::vector<std::string>& names, const std::vector<std::string>& known) {
    for (const auto& wanted : known)
      for (size_t i = 0; i < names.size(); ++i)
        if (plain_name(names[i]) == wanted) return static_cast<int>(i);
    return -1;
  }

  int place(const char* key, const std::string& wanted, const std::vector<std::string>& known, int fallback, bool needed) {
    if (!wanted.empty()) {
      const auto named = std::find(names_.begin(), names_.end(), wanted);
      if (named != names_.end()) return static_cast<int>(named - names_.begin());
      const auto index = index_of(wanted);
      if (index && *index < columns_.count) return static_cast<int>(*index);
      errors_.add(file_.string(), ": no column '", wanted, "' (completion.columns.", key, ")", did_you_mean(wanted, names_), "; ",
                  columns_.header ? cat("columns there: ", join(names_)) : cat("no header, ", columns_.count, " columns"));
      return -1;
    }
    if (columns_.header)
      if (const int found = usual(names_, known); found >= 0) return found;
    if (fallback >= static_cast<int>(columns_.count) && needed)
      errors_.add(file_.string(), ": a line has ", columns_.count, columns_.count == 1 ? " column" : " columns", ", expected row, column",
                  with_values_ ? ", value" : "", "; found '", join(look_.records[0], " | ", 6), "' (completion.separator says where a line is cut)");
    return fallback < static_cast<int>(columns_.count) ? fallback : -1;
  }

  const fs::path& file_;
  const Look& look_;
  const RatingsFormat& format_;
  bool with_values_;
  Columns columns_;
  std::vector<std::string> names_;
  Errors errors_;
};

// ---- triplets ----

class TripletReader {
 public:
  TripletReader(const fs::path& file, std::string_view text, const std::string& separator, Columns columns)
      : file_(file), lines_(text), cutter_(separator), columns_(columns) {}

  Ratings read() {
    bool skip = columns_.header;
    for (std::string_view line; errors_.size() < kMostMistakes && lines_.next(line);) {
      if (is_blank(line)) continue;
      if (!std::exchange(skip, false)) take(line);
    }
    errors_.throw_if_any();
    if (missing_ > 0) out_.remarks.push_back(cat(file_.string(), ": ", missing_, " ratings are NaN or blank and were left out (first at line ", first_missing_, ")"));
    check(out_.size() > 0, file_.string(), ": the file holds no ratings");
    return std::move(out_);
  }

 private:
  std::string here() const { return cat(file_.string(), ":", lines_.number()); }

  void take(std::string_view line) {
    if (!cutter_.cut(line, fields_)) return errors_.add(here(), ": a quote is opened and not closed on the line");
    if (fields_.size() != columns_.count)
      return errors_.add(here(), ": ", fields_.size(), " columns, expected ", columns_.count, " as in the first line; found '", shown(fields_), "'");
    const std::string_view row = fields_[static_cast<size_t>(columns_.row)], col = fields_[static_cast<size_t>(columns_.col)];
    const std::string_view value_text = fields_[static_cast<size_t>(columns_.value)];
    if (row.empty() || col.empty()) return errors_.add(here(), ": the ", row.empty() ? "row" : "column", " id is empty; found '", shown(fields_), "'");
    const auto value = as_number(value_text);
    if (is_missing(value_text) || (value && std::isnan(*value))) {
      if (missing_++ == 0) first_missing_ = lines_.number();
      return;
    }
    if (!value) return errors_.add(here(), ": expected a number as rating, found '", value_text, "'");
    if (std::isinf(*value)) return errors_.add(here(), ": the rating is infinite");
    if (columns_.time >= 0) {
      const auto time = as_time(fields_[static_cast<size_t>(columns_.time)]);
      if (!time || !std::isfinite(*time))
        return errors_.add(here(), ": expected a number or a date like 2005-09-06 as time, found '", fields_[static_cast<size_t>(columns_.time)], "'");
      out_.time.push_back(*time);
    }
    out_.row.push_back(out_.rows.add(row));
    out_.col.push_back(out_.cols.add(col));
    out_.value.push_back(*value);
  }

  const fs::path& file_;
  Lines lines_;
  FieldCutter cutter_;
  Columns columns_;
  std::vector<std::string_view> fields_;
  int64_t missing_ = 0;
  size_t first_missing_ = 0;
  Ratings out_;
  Errors errors_;
};

Ratings read_triplets(const fs::path& file, std::string_view text, const Look& look, const RatingsFormat& format) {
  const Columns columns = ColumnFinder(file, look, format, true).find();
  Ratings out = TripletReader(file, text, look.separator, columns).read();
  std::vector<std::string> ignored;
  for (int i = 0; i < static_cast<int>(columns.count); ++i)
    if (i != columns.row && i != columns.col && i != columns.value && i != columns.time)
      ignored.push_back(columns.header ? look.records[0][static_cast<size_t>(i)] : std::to_string(i));
  if (!ignored.empty()) out.remarks.push_back(cat(file.string(), ": columns not used: ", join(ignored)));
  return out;
}

// ---- dense ----

class DenseReader {
 public:
  DenseReader(const fs::path& file, std::string_view text, const Look& look, const std::string& header)
      : file_(file), lines_(text), cutter_(look.separator) {
    const auto text_field = [&](size_t record, size_t field) { return !look.numeric(record, field); };
    const auto& first = look.records[0];
    header_ = header == "yes";
    for (size_t i = 1; header == "auto" && i < first.size(); ++i) header_ |= text_field(0, i);
    const size_t body = header_ ? 1 : 0;
    for (size_t r = body; r < look.records.size(); ++r) labelled_ |= !look.records[r].empty() && text_field(r, 0);
    // A header may leave out or leave blank the name above the rows' names.
    if (header_ && look.records.size() > 1) {
      labelled_ |= first.size() + 1 == look.records[1].size() || first[0].empty();
      shifted_ = first.size() + 1 == look.records[1].size();
    }
    count_ = header_ && shifted_ ? first.size() + 1 : first.size();
  }

  Ratings read() {
    bool header = header_;
    for (std::string_view line; errors_.size() < kMostMistakes && lines_.next(line);) {
      if (is_blank(line)) continue;
      if (!cutter_.cut(line, fields_)) {
        errors_.add(here(), ": a quote is opened and not closed on the line");
        continue;
      }
      std::exchange(header, false) ? take_header() : take_row();
    }
    errors_.throw_if_any();
    for (size_t j = static_cast<size_t>(out_.cols.size()); j + first_column() < count_; ++j) out_.cols.add(std::to_string(j));
    drop_jester_codes();
    check(out_.size() > 0, file_.string(), ": the file holds no ratings");
    return std::move(out_);
  }

 private:
  std::string here() const { return cat(file_.string(), ":", lines_.number()); }
  size_t first_column() const { return labelled_ ? 1 : 0; }

  void take_header() {
    for (size_t i = shifted_ ? 0 : first_column(); i < fields_.size(); ++i) {
      const int64_t before = out_.cols.size();
      out_.cols.add(fields_[i]);
      if (out_.cols.size() == before) errors_.add(here(), ": two columns are called '", fields_[i], "'");
    }
  }

  void take_row() {
    if (fields_.size() != count_) return errors_.add(here(), ": ", fields_.size(), " columns, expected ", count_, " as in the first line");
    const int64_t before = out_.rows.size();
    const int32_t row = out_.rows.add(labelled_ ? std::string(fields_[0]) : std::to_string(before));
    if (out_.rows.size() == before) return errors_.add(here(), ": two rows are called '", fields_[0], "'");
    for (size_t i = first_column(); i < fields_.size(); ++i) {
      if (is_missing(fields_[i])) continue;
      const auto value = as_number(fields_[i]);
      if (!value) return errors_.add(here(), ": column ", i, ": expected a number or a blank, found '", fields_[i], "'");
      if (std::isinf(*value)) return errors_.add(here(), ": column ", i, ": the value is infinite");
      out_.row.push_back(row);
      out_.col.push_back(static_cast<int32_t>(i - first_column()));
      out_.value.push_back(*value);
    }
  }

  /// Jester's coding: 99 is "not rated", and a first column may say how many jokes a row rates.
  void drop_jester_codes() {
    if (header_ || labelled_) return;
    const size_t n = out_.value.size();
    bool counted = count_ > 50 && out_.rows.size() > 1;  // real files have 101 and more columns
    std::vector<int64_t> rated(static_cast<size_t>(out_.rows.size()), 0);
    std::vector<double> first(rated.size(), -1);
    int64_t coded = 0;
    for (size_t k = 0; k < n; ++k) {
      const auto row = static_cast<size_t>(out_.row[k]);
      if (out_.col[k] == 0) first[row] = out_.value[k];
      else if (out_.value[k] != 99) ++rated[row];
      coded += out_.value[k] == 99;
    }
    for (size_t row = 0; row < rated.size(); ++row) counted &= first[row] == static_cast<double>(rated[row]);
    bool jester = coded > 0 || counted;
    for (size_t k = 0; k < n; ++k) jester &= out_.value[k] == 99 || std::abs(out_.value[k]) <= 10 || (counted && out_.col[k] == 0);
    if (!jester) return;
    Ratings kept;
    for (const auto& name : out_.rows.names()) kept.rows.add(name);
    const int32_t shift = counted ? 1 : 0;
    for (int32_t j = shift; j < static_cast<int32_t>(count_); ++j) kept.cols.add(std::to_string(j - shift));
    for (size_t k = 0; k < n; ++k) {
      if ((coded > 0 && out_.value[k] == 99) || out_.col[k] < shift) continue;
      kept.row.push_back(out_.row[k]);
      kept.col.push_back(out_.col[k] - shift);
      kept.value.push_back(out_.value[k]);
    }
    if (counted) kept.remarks.push_back(cat(file_.string(), ": the first column counts each row's ratings and was dropped (Jester's layout)"));
    if (coded > 0) kept.remarks.push_back(cat(file_.string(), ": ", coded, " values of 99 were taken as not rated (Jester's coding)"));
    out_ = std::move(kept);
  }

  const fs::path& file_;
  Lines lines_;
  FieldCutter cutter_;
  bool header_ = false, labelled_ = false, shifted_ = false;
  size_t count_ = 0;
  std::vector<std::string_view> fields_;
  Ratings out_;
  Errors errors_;
};

// ---- which of them ----

fs::path file_in(const fs::path& path, std::string_view what) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return path;
  const std::vector<std::string> usual{"ratings.csv", "ratings.dat", "u.data"};
  for (const auto& name : usual)
    if (fs::exists(path / name, ignored)) return path / name;
  fail(what, " ", path.string(), " is a folder without any of ", join(usual), "; name the file");
}

void refuse_packed(const fs::path& file, std::string_view what) {
  std::ifstream stream(file, std::ios::binary);
  check(fs::is_regular_file(file) && stream.good(), what, " ", file.string(), " does not exist or cannot be read");
  std::string head(8, '\0');
  stream.read(head.data(), 8);
  const bool gzip = head.starts_with("\x1f\x8b"), zip = head.starts_with("PK\x03\x04"), excel = head.starts_with("\xd0\xcf\x11\xe0");
  check(!gzip, file.string(), ": the file is compressed with gzip; unpack it first (gunzip)");
  check(!zip, file.string(), ": the file is a ZIP archive or an .xlsx table; unpack it, or save the table as CSV");
  check(!excel, file.string(), ": the file is an Excel table (.xls); save it as CSV");
}

std::string format_of(const RatingsFormat& format, const Look& look) {
  if (format.format != "auto") return format.format;
  if (!format.row.empty() || !format.col.empty() || !format.value.empty()) return "triplets";
  const auto& first = look.records[0];
  if (look.separator == "::") return "triplets";
  const size_t body = look.records.size() > 1 ? 1 : 0;  // a header may be one field short
  if (std::max(first.size(), look.records[body].size()) <= 4) return "triplets";
  std::vector<std::string> names;
  for (const auto& name : first) names.push_back(plain_name(name));
  const auto any = [&](const std::vector<std::string>& known) {
    return std::any_of(names.begin(), names.end(), [&](const auto& n) { return std::find(known.begin(), known.end(), n) != known.end(); });
  };
  return any(kRowNames) && any(kColNames) && any(kValueNames) ? "triplets" : "dense";
}

}  // namespace

Ratings read_ratings(const fs::path& path, const RatingsFormat& format, std::string_view what) {
  const std::vector<std::string> known{"auto", "triplets", "dense", "matrix-market", "npy"};
  check(std::find(known.begin(), known.end(), format.format) != known.end(), "completion.format: expected one of ", join(known), ", found '",
        format.format, "'", did_you_mean(format.format, known));
  const fs::path file = file_in(path, what);
  if (format.format == "npy" || file.extension() == ".npy")
    return read_npy(file, read_file(file, what), format.format == "dense" ? 0 : format.format == "triplets" ? 1 : -1);
  refuse_packed(file, what);
  const std::string text = read_text_file(file);
  if (format.format == "matrix-market" || (format.format == "auto" && text.starts_with("%%MatrixMarket"))) return read_matrix_market(file, text);
  const Look look = look_at(file, text, format.separator);
  return format_of(format, look) == "dense" ? DenseReader(file, text, look, format.header).read() : read_triplets(file, text, look, format);
}

RatingPairs read_pairs(const fs::path& file, const RatingsFormat& format) {
  const std::string text = read_text_file(file);
  const Look look = look_at(file, text, format.separator);
  const Columns columns = ColumnFinder(file, look, format, false).find();
  FieldCutter cutter(look.separator);
  Lines lines(text);
  RatingPairs pairs;
  Errors errors;
  std::vector<std::string_view> fields;
  bool skip = columns.header;
  for (std::string_view line; errors.size() < kMostMistakes && lines.next(line);) {
    if (is_blank(line) || std::exchange(skip, false)) continue;
    const std::string here = cat(file.string(), ":", lines.number());
    if (!cutter.cut(line, fields) || fields.size() != columns.count)
      errors.add(here, ": ", fields.size(), " columns, expected ", columns.count, " as in the first line");
    else if (fields[static_cast<size_t>(columns.row)].empty() || fields[static_cast<size_t>(columns.col)].empty())
      errors.add(here, ": an id is empty");
    else {
      pairs.row.emplace_back(fields[static_cast<size_t>(columns.row)]);
      pairs.col.emplace_back(fields[static_cast<size_t>(columns.col)]);
      pairs.source.push_back(here);
    }
  }
  errors.throw_if_any();
  check(!pairs.row.empty(), file.string(), ": the file holds no pairs");
  return pairs;
}

std::vector<std::string> read_ids(const fs::path& file) {
  const std::string text = read_text_file(file);
  Lines lines(text);
  std::vector<std::string> ids;
  FieldCutter cutter(",");
  std::vector<std::string_view> fields;
  for (std::string_view line; lines.next(line);) {
    if (is_blank(line)) continue;
    check(cutter.cut(line, fields) && fields.size() == 1, file.string(), ":", lines.number(), ": expected one id a line, found '", line, "'");
    ids.emplace_back(fields[0]);
  }
  check(!ids.empty(), file.string(), ": the file holds no ids");
  return ids;
}

}  // namespace deeplora
