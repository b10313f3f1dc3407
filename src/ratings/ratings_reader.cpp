#include "ratings/ratings_reader.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <utility>

#include "core/files.h"
#include "ratings/delimited.h"
#include "ratings/dense_reader.h"
#include "ratings/matrix_files.h"
#include "ratings/table_layout.h"
#include "ratings/triplet_columns.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMostMistakes = 12;

// ---- triplets ----

class TripletReader {
 public:
  TripletReader(const fs::path& file, std::string_view text, const std::string& separator, TripletColumns columns)
      : file_(file), lines_(text), cutter_(separator), columns_(columns) {}

  Ratings read() {
    bool skip = columns_.header;
    for (std::string_view line; errors_.size() < kMostMistakes && lines_.next(line);) {
      if (is_blank(line)) continue;
      if (!std::exchange(skip, false)) take(line);
    }
    errors_.throw_if_any();
    if (missing_ > 0)
      out_.remarks.push_back(cat(file_.string(), ": ", missing_,
                                 " ratings are NaN or blank and were left out (first at line ", first_missing_, ")"));
    check(out_.size() > 0, file_.string(), ": the file holds no ratings");
    return std::move(out_);
  }

 private:
  std::string here() const { return cat(file_.string(), ":", lines_.number()); }

  void take(std::string_view line) {
    if (!cutter_.cut(line, fields_)) return errors_.add(here(), ": a quote is opened and not closed on the line");
    if (fields_.size() != columns_.count)
      return errors_.add(here(), ": ", fields_.size(), " columns, expected ", columns_.count,
                         " as in the first line; found '", shown_fields(fields_), "'");
    const std::string_view row = fields_[static_cast<size_t>(columns_.row)],
                           col = fields_[static_cast<size_t>(columns_.col)];
    const std::string_view value_text = fields_[static_cast<size_t>(columns_.value)];
    if (row.empty() || col.empty())
      return errors_.add(here(), ": the ", row.empty() ? "row" : "column", " id is empty; found '",
                         shown_fields(fields_), "'");
    const auto value = as_number(value_text);
    if (is_missing(value_text) || (value && std::isnan(*value))) {
      if (missing_++ == 0) first_missing_ = lines_.number();
      return;
    }
    if (!value)
      return errors_.add(here(), ": expected a number as rating, found '", value_text, "'",
                         decimal_comma_hint(value_text));
    if (std::isinf(*value)) return errors_.add(here(), ": the rating is infinite");
    if (columns_.time >= 0) {
      const auto time = as_time(fields_[static_cast<size_t>(columns_.time)]);
      if (!time || !std::isfinite(*time))
        return errors_.add(here(), ": expected a number or a date like 2005-09-06 as time, found '",
                           fields_[static_cast<size_t>(columns_.time)], "'");
      out_.time.push_back(*time);
    }
    out_.row.push_back(out_.rows.add(row));
    out_.col.push_back(out_.cols.add(col));
    out_.value.push_back(*value);
  }

  static std::string decimal_comma_hint(std::string_view text) {
    std::string pointed(text);
    std::replace(pointed.begin(), pointed.end(), ',', '.');
    return pointed != text && as_number(pointed) ? " (a decimal comma; write a point)" : "";
  }

  const fs::path& file_;
  Lines lines_;
  FieldCutter cutter_;
  TripletColumns columns_;
  std::vector<std::string_view> fields_;
  int64_t missing_ = 0;
  size_t first_missing_ = 0;
  Ratings out_;
  Errors errors_;
};

void say_respelled(const fs::path& file, const IdIndex& ids, Ratings& ratings) {
  if (!ids.respelled().empty())
    ratings.remarks.push_back(
        cat(file.string(), ": ids that are equal numbers were taken as one, e.g. ", ids.respelled()));
}

Ratings read_triplets(const fs::path& file, std::string_view text, const TableLook& look, const RatingsFormat& format) {
  const TripletColumns columns = triplet_columns(file, look, format);
  Ratings out = TripletReader(file, text, look.separator, columns).read();
  out.remarks.insert(out.remarks.end(), columns.remarks.begin(), columns.remarks.end());
  out.row_column = columns.name(look, columns.row);
  out.col_column = columns.name(look, columns.col);
  std::vector<std::string> ignored;
  for (int i = 0; i < static_cast<int>(columns.count); ++i)
    if (i != columns.row && i != columns.col && i != columns.value && i != columns.time)
      ignored.push_back(columns.header ? columns.name(look, i) : std::to_string(i));
  if (!ignored.empty()) out.remarks.push_back(cat(file.string(), ": columns not used: ", join(ignored)));
  return out;
}

Ratings read_dense(const fs::path& file, std::string_view text, const TableLook& look, const TableLayout& layout,
                   bool guessed) {
  Ratings out = read_dense_table(file, text, look, layout);
  if (layout.header && layout.row_names && !layout.short_header) out.row_column = look.records[0][0];
  // Jester's files have remarks of their own.
  if (guessed && out.remarks.empty())
    out.remarks.push_back(cat(file.string(), ": read as a dense table of ", out.rows.size(), " rows",
                              layout.row_names ? ", named by the first column" : "", ", and ", out.cols.size(),
                              " columns", layout.header ? ", named by the first line" : ""));
  return out;
}

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
  const bool gzip = head.starts_with("\x1f\x8b"), zip = head.starts_with("PK\x03\x04"),
             excel = head.starts_with("\xd0\xcf\x11\xe0");
  check(!gzip, file.string(), ": the file is compressed with gzip; unpack it first (gunzip)");
  check(!zip, file.string(), ": the file is a ZIP archive or an .xlsx table; unpack it, or save the table as CSV");
  check(!excel, file.string(), ": the file is an Excel table (.xls); save it as CSV");
}

std::string text_of(const fs::path& file, const RatingsFormat& format) {
  return read_text_file(file, {.name = format.encoding, .key = "completion.encoding"});
}

}  // namespace

Ratings read_ratings(const fs::path& path, const RatingsFormat& format, std::string_view what) {
  const std::vector<std::string> known{"auto", "triplets", "dense", "matrix-market", "npy"};
  check(std::find(known.begin(), known.end(), format.format) != known.end(), "completion.format: expected one of ",
        join(known), ", found '", format.format, "'", did_you_mean(format.format, known));
  const fs::path file = file_in(path, what);
  if (format.format == "npy" || file.extension() == ".npy")
    return read_npy(file, read_file(file, what), format.format == "dense" ? 0 : format.format == "triplets" ? 1 : -1);
  refuse_packed(file, what);
  const std::string text = text_of(file, format);
  if (format.format == "matrix-market" || (format.format == "auto" && text.starts_with("%%MatrixMarket")))
    return read_matrix_market(file, text);
  const TableLook look = look_at(file, text, format.separator, 3);
  const TableLayout layout = layout_of(file, look, format);
  Ratings out = layout.dense ? read_dense(file, text, look, layout, format.format == "auto")
                             : read_triplets(file, text, look, format);
  say_respelled(file, out.rows, out);
  say_respelled(file, out.cols, out);
  return out;
}

RatingPairs read_pairs(const fs::path& file, const RatingsFormat& format, const KnownIds& known) {
  const std::string text = text_of(file, format);
  const TableLook look = look_at(file, text, format.separator, 2);
  const TripletColumns columns = pair_columns(file, look, format, known);
  FieldCutter cutter(look.separator);
  Lines lines(text);
  RatingPairs pairs;
  pairs.remarks = columns.remarks;
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
      if (columns.time >= 0) {
        const auto time = as_time(fields[static_cast<size_t>(columns.time)]);
        if (!time || !std::isfinite(*time)) {
          errors.add(here, ": expected a number or a date like 2005-09-06 as time, found '",
                     fields[static_cast<size_t>(columns.time)], "'");
          continue;
        }
        pairs.time.push_back(*time);
      }
      pairs.row.emplace_back(fields[static_cast<size_t>(columns.row)]);
      pairs.col.emplace_back(fields[static_cast<size_t>(columns.col)]);
      pairs.source.push_back(here);
    }
  }
  errors.throw_if_any();
  check(!pairs.row.empty(), file.string(), ": the file holds no pairs");
  return pairs;
}

std::vector<std::pair<std::string, std::string>> read_titles(const fs::path& file, const RatingsFormat& format) {
  static const std::vector<std::string> usual_ids = [] {
    std::vector<std::string> names = usual_col_names();
    names.insert(names.end(), {"id", "movieid", "itemid"});
    return names;
  }();
  static const std::vector<std::string> usual_titles{"title",     "name",     "label", "movietitle",
                                                     "booktitle", "itemname", "text"};
  const std::string text = text_of(file, format);
  const TableLook look = look_at(file, text, format.separator, 2);
  const auto& first = look.records[0];
  const int id_found = usual_column(first, usual_ids), title_found = usual_column(first, usual_titles);
  const bool header = id_found >= 0 && title_found >= 0 && id_found != title_found;
  const auto id = static_cast<size_t>(header ? id_found : 0), title = static_cast<size_t>(header ? title_found : 1);
  FieldCutter cutter(look.separator);
  Lines lines(text);
  std::vector<std::pair<std::string, std::string>> out;
  Errors errors;
  std::vector<std::string_view> fields;
  bool skip = header;
  for (std::string_view line; errors.size() < kMostMistakes && lines.next(line);) {
    if (is_blank(line) || std::exchange(skip, false)) continue;
    if (!cutter.cut(line, fields) || fields.size() <= std::max(id, title))
      errors.add(file.string(), ":", lines.number(), ": ", fields.size(),
                 " columns, expected an id and a title (completion.separator says where a line is cut)");
    else out.emplace_back(fields[id], fields[title]);
  }
  errors.throw_if_any();
  return out;
}

std::vector<std::string> read_ids(const fs::path& file, const RatingsFormat& format) {
  const std::string text = text_of(file, format);
  Lines lines(text);
  std::vector<std::string> ids;
  FieldCutter cutter(",");
  std::vector<std::string_view> fields;
  for (std::string_view line; lines.next(line);) {
    if (is_blank(line)) continue;
    check(cutter.cut(line, fields) && fields.size() == 1, file.string(), ":", lines.number(),
          ": expected one id a line, found '", line, "'");
    ids.emplace_back(fields[0]);
  }
  check(!ids.empty(), file.string(), ": the file holds no ids");
  return ids;
}

}  // namespace deeplora
