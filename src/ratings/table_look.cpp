#include "ratings/table_look.h"

#include <algorithm>
#include <cctype>

#include "core/error.h"
#include "ratings/delimited.h"
#include "ratings/separator.h"

namespace deeplora {

CellKind cell_of(std::string_view field) {
  if (is_missing(field)) return CellKind::missing;
  return as_number(field) ? CellKind::number : CellKind::text;
}

size_t TableLook::width() const { return std::max(records[0].size(), records[records.size() > 1 ? 1 : 0].size()); }

CellKind TableLook::cell(size_t r, size_t f) const {
  return f < records[r].size() ? cell_of(records[r][f]) : CellKind::missing;
}

TableLook look_at(const std::filesystem::path& file, std::string_view text, const std::string& separator,
                  size_t least) {
  constexpr size_t kSurely = 20, kMostRecords = 1000, kMostFields = 200'000;
  TableLook look{separator_of(file, separator, text, least), {}};
  FieldCutter cutter(look.separator);
  Lines lines(text);
  std::vector<std::string_view> fields;
  size_t taken = 0;
  for (std::string_view line;
       look.records.size() < kSurely || (look.records.size() < kMostRecords && taken < kMostFields);) {
    if (!lines.next(line)) break;
    if (is_blank(line)) continue;
    const bool whole = cutter.cut(line, fields);
    check(whole || !look.records.empty(), file.string(), ":", lines.number(),
          ": a quote is opened and not closed on the line");
    if (!whole) continue;  // the reader says so
    look.records.emplace_back(fields.begin(), fields.end());
    taken += fields.size();
  }
  check(!look.records.empty(), file.string(), ": the file holds no ratings");
  return look;
}

const std::vector<std::string>& usual_row_names() {
  static const std::vector<std::string> names{"user", "userid",   "users",      "row",        "u",
                                              "uid",  "customer", "customerid", "reviewerid", "i"};
  return names;
}

const std::vector<std::string>& usual_col_names() {
  static const std::vector<std::string> names{"item",   "itemid",   "items",     "movie", "movieid", "col",  "column",
                                              "isbn",   "product",  "productid", "book",  "bookid",  "joke", "jokeid",
                                              "artist", "artistid", "asin",      "iid",   "j"};
  return names;
}

const std::vector<std::string>& usual_value_names() {
  static const std::vector<std::string> names{"rating",     "ratings", "value", "score", "stars",
                                              "bookrating", "overall", "r",     "v",     "weight"};
  return names;
}

const std::vector<std::string>& usual_time_names() {
  static const std::vector<std::string> names{"timestamp", "time",           "date", "datetime",
                                              "unixtime",  "unixreviewtime", "t"};
  return names;
}

std::string plain_name(std::string_view name) {
  std::string out;
  for (const unsigned char c : name)
    if (c != '_' && c != '-' && c != ' ') out += static_cast<char>(std::tolower(c));
  return out;
}

int usual_column(const std::vector<std::string>& names, const std::vector<std::string>& usual) {
  for (const auto& wanted : usual)
    for (size_t i = 0; i < names.size(); ++i)
      if (plain_name(names[i]) == wanted) return static_cast<int>(i);
  return -1;
}

std::string shown_fields(const std::vector<std::string_view>& fields) {
  std::vector<std::string> out;
  for (const auto& field : fields)
    out.push_back(field.size() > 40 ? cat(field.substr(0, 40), "...") : std::string(field));
  return join(out, " | ", 12);
}

}  // namespace deeplora
