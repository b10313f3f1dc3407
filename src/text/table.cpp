#include "text/table.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <functional>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/json_text.h"
#include "text/text_lines.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostColumns = 10000;
constexpr size_t kMostMistakes = 100;

/// One record of a TSV or CSV file.
struct Record {
  size_t line = 0;
  std::vector<std::string> values;
};

/// Gives the next record, false at the end. Mistakes that leave the rest readable go into the errors.
using NextRecord = std::function<bool(Record&)>;

std::string at(const fs::path& file, size_t line) {
  return cat(file.string(), ":", line);
}

std::string choose_format(const fs::path& file, const std::string& format) {
  const std::vector<std::string> known{"jsonl", "tsv", "csv", "text"};
  if (format != "auto") {
    check(std::find(known.begin(), known.end(), format) != known.end(), "data.format: expected one of auto, ",
          join(known), ", found '", format, "'", did_you_mean(format, known));
    return format;
  }
  std::string extension = file.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (extension == ".jsonl" || extension == ".json") return "jsonl";
  if (extension == ".tsv") return "tsv";
  if (extension == ".csv") return "csv";
  if (extension == ".txt") return "text";
  fail("data file ", file.string(), ": the extension '", extension,
       "' does not tell the format; set data.format to one of ", join(known));
}

std::optional<size_t> as_index(const std::string& name) {
  size_t value = 0;
  const char* end = name.data() + name.size();
  const auto [rest, failed] = std::from_chars(name.data(), end, value);
  if (name.empty() || failed != std::errc() || rest != end) return std::nullopt;
  return value;
}

// ---- JSONL ----

std::string json_mistake(const nlohmann::json::parse_error& e) {
  std::string what =
      e.what();  // "[json.exception.parse_error.101] parse error at line 1, column 9: syntax error ..."
  const size_t colon = what.find(": ");
  if (colon != std::string::npos) what.erase(0, colon + 2);
  return cat("not valid JSON at byte ", e.byte, ": ", what);
}

void check_json_row(const Row& row, const TableOptions& options, Errors& errors) {
  const auto has = [&](const std::string& name) { return row.fields.contains(name); };
  if (std::any_of(options.stand_ins.begin(), options.stand_ins.end(), has)) return;
  std::vector<std::string> names, missing;
  for (const auto& [name, unused] : row.fields.items()) names.push_back(name);
  for (const auto& name : options.wanted)
    if (!has(name)) missing.push_back(cat("'", name, "'", did_you_mean(name, names)));
  if (!missing.empty()) errors.add(row.source, ": no field ", join(missing), "; fields there: ", join(names));
}

std::vector<Row> read_jsonl(const fs::path& file, std::string_view text, const TableOptions& options) {
  std::vector<Row> rows;
  Errors errors;
  Lines lines(text);
  for (std::string_view line; errors.size() < kMostMistakes && lines.next(line);) {
    if (is_blank(line)) continue;
    Row row{at(file, lines.number()), {}};
    if (nests_too_deep(line)) {
      errors.add(row.source, ": nests deeper than ", kDeepestJson, " levels");
      continue;
    }
    try {
      row.fields = Json::parse(line);
    } catch (const nlohmann::json::parse_error& e) {
      errors.add(row.source, ": ", json_mistake(e));
      continue;
    } catch (const nlohmann::json::exception&) {
      errors.add(row.source, ": a number is out of range");
      continue;
    }
    if (!row.fields.is_object()) {
      errors.add(row.source, ": expected a JSON object {...} on every line, found ", row.fields.type_name());
      continue;
    }
    check_json_row(row, options, errors);
    rows.push_back(std::move(row));
  }
  errors.throw_if_any();
  return rows;
}

// ---- TSV and CSV ----

void split_tsv(std::string_view line, std::vector<std::string>& values) {
  values.clear();
  for (size_t begin = 0;;) {
    const size_t tab = line.find('\t', begin);
    if (values.size() <= kMostColumns) values.emplace_back(line.substr(begin, tab - begin));
    if (tab == std::string_view::npos) return;
    begin = tab + 1;
  }
}

NextRecord tsv_records(std::string_view text) {
  return [lines = Lines(text)](Record& record) mutable {
    std::string_view line;
    do {
      if (!lines.next(line)) return false;
    } while (line.find_first_not_of(" \r") == std::string_view::npos);
    record.line = lines.number();
    split_tsv(line, record.values);
    return true;
  };
}

/// RFC 4180: fields in quotes may hold commas, line ends and doubled quotes.
class CsvReader {
 public:
  CsvReader(const fs::path& file, std::string_view text) : file_(file), text_(text) {}

  bool next(Record& record) {
    skip_blank_lines();
    if (at_ >= text_.size()) return false;
    record.line = line_;
    record.values.clear();
    for (bool more = true; more;) {
      std::string value = peek() == '"' ? quoted() : plain();
      if (record.values.size() <= kMostColumns) record.values.push_back(std::move(value));
      more = at_ < text_.size() && text_[at_] == ',';
      if (more) ++at_;
    }
    end_line();
    return true;
  }

 private:
  char peek() const { return at_ < text_.size() ? text_[at_] : '\n'; }

  void skip_blank_lines() {
    for (;;) {
      const size_t end = std::min(text_.find('\n', at_), text_.size());
      if (at_ >= text_.size() || !is_blank(text_.substr(at_, end - at_))) return;
      at_ = end + 1;
      ++line_;
    }
  }

  std::string plain() {
    const size_t begin = at_;
    at_ = std::min(text_.find_first_of(",\n", begin), text_.size());
    std::string_view value = text_.substr(begin, at_ - begin);
    if (peek() == '\n' && value.ends_with('\r')) value.remove_suffix(1);
    return std::string(value);
  }

  std::string quoted() {
    const size_t opened = line_;
    std::string value;
    for (++at_;;) {
      const size_t quote = text_.find('"', at_);
      check(quote != std::string_view::npos, at(file_, opened),
            ": a quote is opened and never closed; write \"\" for a quote inside a field, or set "
            "data.format: tsv");
      const std::string_view part = text_.substr(at_, quote - at_);
      value += part;
      line_ += static_cast<size_t>(std::count(part.begin(), part.end(), '\n'));
      at_ = quote + 1;
      if (peek() != '"') break;
      value += '"';
      ++at_;
    }
    const bool closed =
        peek() == ',' || peek() == '\n' || text_.substr(at_).starts_with("\r\n") || text_.substr(at_) == "\r";
    check(closed, at(file_, line_),
          ": text after the closing quote of a field; write \"\" for a quote inside a field");
    return value;
  }

  void end_line() {
    if (peek() == '\r') ++at_;
    ++at_;
    ++line_;
  }

  const fs::path& file_;
  std::string_view text_;
  size_t at_ = 0, line_ = 1;
};

/// Names of the columns, and the wanted indices that become further keys.
struct Columns {
  std::vector<std::string> names;
  std::vector<std::pair<std::string, size_t>> further;
};

bool is_header(const fs::path& file, const Record& first, const TableOptions& options) {
  const std::vector<std::string> known{"auto", "yes", "no"};
  check(std::find(known.begin(), known.end(), options.header) != known.end(), "data.header: expected one of ",
        join(known), ", found '", options.header, "' (", file.string(), ")");
  if (options.header != "auto") return options.header == "yes";
  const auto is_there = [&](const std::string& name) {
    return !as_index(name) && std::find(first.values.begin(), first.values.end(), name) != first.values.end();
  };
  return std::any_of(options.wanted.begin(), options.wanted.end(), is_there) ||
         std::any_of(options.known.begin(), options.known.end(), is_there);
}

std::string shown(const std::vector<std::string>& values) {
  std::vector<std::string> out;
  for (const auto& value : values) out.push_back(value.size() > 40 ? value.substr(0, 40) + "..." : value);
  return join(out, " | ");
}

Columns name_columns(const fs::path& file, const Record& first, bool header, const TableOptions& options) {
  Columns columns;
  Errors errors;
  std::set<std::string> seen;
  for (size_t i = 0; i < first.values.size(); ++i) {
    columns.names.push_back(header && !first.values[i].empty() ? first.values[i] : cat(i));
    if (!seen.insert(columns.names.back()).second)
      errors.add(at(file, first.line), ": two columns are called '", columns.names.back(), "'");
  }
  std::vector<std::string> missing;
  for (const auto& name : options.wanted) {
    if (seen.count(name)) continue;
    const auto index = as_index(name);
    if (index && *index < columns.names.size())
      columns.further.emplace_back(name, *index);
    else
      missing.push_back(cat("'", name, "'", did_you_mean(name, columns.names)));
  }
  if (!missing.empty())
    errors.add(file.string(), ": no column ", join(missing), "; columns there: ", join(columns.names),
               header ? "" : cat(" (no header; the first line is ", shown(first.values), ")"),
               first.values.size() == 1 && first.values[0].find('\t') != std::string::npos
                   ? "; the line holds tabs: set data.format: tsv"
                   : "");
  errors.throw_if_any();
  return columns;
}

Row make_row(const fs::path& file, Record& record, const Columns& columns) {
  Row row{at(file, record.line), Json::object()};
  // Appending directly: emplace would search every key before.
  auto& fields = row.fields.get_ref<Json::object_t&>();
  fields.reserve(columns.names.size() + columns.further.size());
  for (size_t i = 0; i < columns.names.size(); ++i)
    fields.emplace_back(columns.names[i], std::move(record.values[i]));
  for (const auto& [name, index] : columns.further) {
    Json same = (fields.begin() + static_cast<std::ptrdiff_t>(index))->second;
    fields.emplace_back(name, std::move(same));
  }
  return row;
}

std::vector<Row> read_records(const fs::path& file, const NextRecord& next, const TableOptions& options) {
  std::vector<Row> rows;
  Record record;
  if (!next(record)) return rows;
  check(record.values.size() <= kMostColumns, at(file, record.line), ": more than ", kMostColumns,
        " columns");
  const bool header = is_header(file, record, options);
  const size_t first_line = record.line;
  const Columns columns = name_columns(file, record, header, options);
  if (!header) rows.push_back(make_row(file, record, columns));
  Errors errors;
  while (errors.size() < kMostMistakes && next(record)) {
    if (record.values.size() == columns.names.size())
      rows.push_back(make_row(file, record, columns));
    else
      errors.add(at(file, record.line), ": ", record.values.size(), " columns, expected ",
                 columns.names.size(), " as in line ", first_line);
  }
  errors.throw_if_any();
  return rows;
}

// ---- plain text ----

std::vector<Row> read_lines(const fs::path& file, std::string_view text, const TableOptions& options) {
  const std::vector<std::string> names{"text"};
  for (const auto& name : options.wanted)
    check(name == "text" || name == "0", file.string(), ": no column '", name,
          "'; plain text has one column, 'text'");
  std::vector<Row> rows;
  Lines lines(text);
  for (std::string_view line; lines.next(line);) {
    Row row{at(file, lines.number()), Json::object()};
    row.fields["text"] = std::string(line);
    for (const auto& name : options.wanted) row.fields[name] = std::string(line);
    row.is_line = true;
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace

std::vector<Row> read_table(const fs::path& file, const TableOptions& options) {
  const std::string format = choose_format(file, options.format);
  check(options.header == "auto" || format == "tsv" || format == "csv", "data.header: '", options.header,
        "' applies to TSV and CSV only, and ", file.string(), " is read as ", format);
  const std::string text = read_text_file(file);
  std::vector<Row> rows;
  if (format == "jsonl") {
    rows = read_jsonl(file, text, options);
  } else if (format == "text") {
    rows = read_lines(file, text, options);
  } else if (format == "tsv") {
    rows = read_records(file, tsv_records(text), options);
  } else {
    CsvReader reader(file, text);
    rows = read_records(
        file, [&](Record& record) { return reader.next(record); }, options);
  }
  check(!rows.empty(), "data file ", file.string(), " has no rows");
  return rows;
}

}  // namespace deeplora
