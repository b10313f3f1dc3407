#include "text/table.h"

#include <algorithm>
#include <optional>
#include <map>
#include <set>
#include <utility>

#include "core/error.h"
#include "text/conll_rows.h"
#include "text/encoding.h"
#include "text/json_rows.h"
#include "text/records.h"
#include "text/row_errors.h"
#include "text/table_form.h"
#include "core/number_text.h"
#include "text/text_lines.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;
using Names = std::vector<std::string>;

/// The name among those there that a wanted column goes by, itself first.
std::optional<std::string> name_there(const std::string& wanted, const TableOptions& options, const auto& is_there) {
  if (is_there(wanted)) return wanted;
  const auto found = options.aliases.find(wanted);
  if (found != options.aliases.end())
    for (const auto& other : found->second)
      if (is_there(other)) return other;
  return std::nullopt;
}

/// What to do about missing columns, then which they are. `what` is column or field.
std::string missing_columns(const Names& missing, const Names& there, const char* what, const TableOptions& options) {
  Names remedies, names;
  for (const auto& name : missing) {
    const auto key = options.keys.find(name);
    const std::string near = nearest(name, there);
    if (key != options.keys.end()) remedies.push_back(cat(key->second, ": ", near.empty() ? "..." : near));
    names.push_back(cat("'", name, "'", key == options.keys.end() ? did_you_mean(name, there) : ""));
  }
  const std::string remedy = remedies.empty() ? "" : cat("set ", join(remedies, " and "), "; ");
  return cat(remedy, "no ", what, " ", join(names), "; ", what, "s there: ", there.empty() ? "none" : join(there));
}

// ---- JSON ----

/// The wanted columns of a row under their own names; what is missing goes into the errors.
bool name_fields(Row& row, const TableOptions& options, RowErrors& errors) {
  const auto has = [&](const std::string& name) { return row.fields.contains(name); };
  if (std::any_of(options.stand_ins.begin(), options.stand_ins.end(), has)) return true;
  Names missing, there;
  for (const auto& wanted : options.wanted) {
    const auto name = name_there(wanted, options, has);
    if (!name) missing.push_back(wanted);
    else if (*name != wanted) row.fields[wanted] = Json(row.fields[*name]);
  }
  if (missing.empty()) return true;
  for (const auto& [name, unused] : row.fields.items()) there.push_back(name);
  errors.add(row.source, missing_columns(missing, there, "field", options));
  return false;
}

void read_json(Table& table, const fs::path& file, std::string_view text, const TableOptions& options,
               RowErrors& errors) {
  auto rows = table.format == "json" ? read_json_list(file, text, errors) : read_json_lines(file, text, errors);
  std::set<std::string> seen;
  for (auto& row : rows) {
    for (const auto& [name, unused] : row.fields.items())
      if (seen.size() < kMostColumns && seen.insert(name).second) table.columns.push_back(name);
    if (name_fields(row, options, errors)) table.rows.push_back(std::move(row));
  }
}

// ---- TSV and CSV ----

/// A wanted column that is another one of the file.
using Further = std::vector<std::pair<std::string, size_t>>;

std::string hint_for(const Record& first, const DelimitedForm& form) {
  if (first.values.size() > 1) return "";
  for (const char other : {';', '\t', '|', ','})
    if (other != form.dialect.separator && first.values[0].find(other) != std::string::npos)
      return cat("; the line holds ", shown_separator(other), ": set data.separator");
  return "";
}

/// Names of the columns into the table; the wanted columns that go by other names are given back.
Further name_columns(Table& table, const fs::path& file, const Record& first, const DelimitedForm& form,
                     const TableOptions& options) {
  Errors errors;
  std::map<std::string, size_t> place;
  for (size_t i = 0; i < first.values.size(); ++i) {
    table.columns.push_back(table.header && !first.values[i].empty() ? first.values[i] : cat(i));
    if (!place.emplace(table.columns.back(), i).second)
      errors.add(at_line(file, first.line), ": two columns are called '", table.columns.back(), "'");
  }
  Further further;
  Names missing;
  for (const auto& wanted : options.wanted) {
    const auto is_there = [&](const std::string& name) {
      return place.count(name) > 0 ||
             (as_index(name) && (name == wanted || !table.header) && *as_index(name) < first.values.size());
    };
    const auto name = name_there(wanted, options, is_there);
    if (!name) missing.push_back(wanted);
    else if (*name != wanted || !place.count(wanted))
      further.emplace_back(wanted, place.count(*name) ? place.at(*name) : *as_index(*name));
  }
  if (!missing.empty())
    errors.add(file.string(), ": ", missing_columns(missing, table.columns, "column", options),
               table.header ? "" : cat(" (no header; the first line is ", shown_record(first.values), ")"),
               hint_for(first, form));
  errors.throw_if_any();
  return further;
}

Row make_row(const fs::path& file, Record& record, const Names& columns, const Further& further) {
  Row row{at_line(file, record.line), Json::object()};
  // Appending directly: emplace would search every key before.
  auto& fields = row.fields.get_ref<Json::object_t&>();
  fields.reserve(columns.size() + further.size());
  for (size_t i = 0; i < columns.size(); ++i) fields.emplace_back(columns[i], std::move(record.values[i]));
  for (const auto& [name, index] : further) {
    Json same = (fields.begin() + static_cast<std::ptrdiff_t>(index))->second;
    fields.emplace_back(name, std::move(same));
  }
  return row;
}

void read_records(Table& table, const fs::path& file, std::string_view text, const TableOptions& options,
                  RowErrors& errors) {
  const DelimitedForm form = choose_dialect(file, text, table.format, options);
  table.separator = form.dialect.separator;
  RecordReader reader(text.substr(form.begin), form.dialect, form.first_line);
  Record record;
  if (!reader.next(record)) return;
  check(record.mistake.empty(), at_line(file, record.line), ": ", record.mistake);
  check(record.values.size() <= kMostColumns, at_line(file, record.line), ": more than ", kMostColumns, " columns");
  table.header = choose_header(file, text, form, options);
  const size_t first_line = record.line;
  const Further further = name_columns(table, file, record, form, options);
  const char* hint =
      table.columns.size() > 1
          ? ""
          : "; for one column whose texts hold the separator set data.separator to a character that they lack";
  bool is_row = !table.header;
  do {
    table.quoted = table.quoted || record.quoted;
    if (!std::exchange(is_row, true)) continue;
    if (!record.mistake.empty()) errors.add(at_line(file, record.line), record.mistake);
    else if (record.values.size() != table.columns.size())
      errors.add(at_line(file, record.line), cat(record.values.size(), " columns, expected ", table.columns.size(),
                                                 " as in line ", first_line, hint));
    else table.rows.push_back(make_row(file, record, table.columns, further));
  } while (reader.next(record));
}

// ---- words in columns ----

void read_conll(Table& table, const fs::path& file, std::string_view text, const TableOptions& options,
                RowErrors& errors) {
  table.rows = read_conll_rows(file, text, options.conll, errors);
  table.columns = {options.conll.words, options.conll.tags};
  for (const auto& name : options.wanted)
    check(std::find(table.columns.begin(), table.columns.end(), name) != table.columns.end(), file.string(),
          ": no column '", name, "'; a file of words in columns gives ", join(table.columns));
}

// ---- plain text ----

void read_lines(Table& table, const fs::path& file, std::string_view text, const TableOptions& options) {
  table.columns = {"text"};
  const auto is_there = [](const std::string& name) { return name == "text" || name == "0"; };
  for (const auto& name : options.wanted)
    check(name_there(name, options, is_there).has_value(), file.string(), ": no column '", name,
          "'; plain text has one column, 'text'");
  Lines lines(text);
  for (std::string_view line; lines.next(line);) {
    Row row{at_line(file, lines.number()), Json::object()};
    row.fields["text"] = std::string(line);
    for (const auto& name : options.wanted) row.fields[name] = std::string(line);
    row.is_line = true;
    table.rows.push_back(std::move(row));
  }
}

/// Keys of another kind of file that somebody set.
void check_keys(const fs::path& file, const std::string& format, const TableOptions& options) {
  if (format == "tsv" || format == "csv" || options.any_format) return;
  const std::pair<const char*, const std::string*> keys[] = {
      {"header", &options.header}, {"separator", &options.separator}, {"quoting", &options.quoting}};
  for (const auto& [key, value] : keys)
    check(*value == "auto", "data.", key, ": '", *value, "' applies to TSV and CSV only, and ", file.string(),
          " is read as ", format);
}

/// Takes out rows that can be read, but are of no use.
void leave_useless(Table& table, const TableOptions& options, RowErrors& errors) {
  if (options.bad_rows != "skip" || !options.check_row) return;
  std::erase_if(table.rows, [&](const Row& row) {
    try {
      options.check_row(row);
      return false;
    } catch (const Error& e) {
      errors.add_what(row.source, e.what());
      return true;
    }
  });
}

/// Rows that could not be read: an error, or said to be skipped.
void settle(Table& table, const fs::path& file, const TableOptions& options, const RowErrors& errors) {
  if (errors.empty()) return;
  const size_t all = table.rows.size() + errors.rows();
  const bool few = errors.rows() * 10 <= all;
  check(options.bad_rows == "skip", errors.text(), few ? "; or leave such rows out with data.bad_rows: skip" : "");
  check(static_cast<double>(errors.rows()) <= options.bad_rows_share * static_cast<double>(all), file.string(), ": ",
        with_commas(errors.rows()), " of ", with_commas(all), " rows cannot be ", options.check_row ? "used" : "read",
        ", more than data.bad_rows_share: ", options.bad_rows_share, "; ", errors.text());
  table.skipped = errors.rows();
  table.skipped_rows = cat(with_commas(errors.rows()), " of ", with_commas(all), " rows were skipped: ", errors.text());
}

}  // namespace

std::string Table::summary() const {
  std::string out = cat(with_commas(rows.size()), rows.size() == 1 ? " row" : " rows");
  if (format == "text") return out + " of plain text";
  out += cat(", columns ", join(columns, ", ", 8));
  if (separator != 0)
    out += cat("; separator ", shown_separator(separator), quoted ? ", quoted" : "", header ? "" : ", no header");
  if (skipped > 0) out += cat("; ", with_commas(skipped), " skipped");
  return out;
}

Table read_table(const fs::path& file, const TableOptions& options) {
  const auto one_of = [](const std::string& key, const std::string& value, const Names& known) {
    check(std::find(known.begin(), known.end(), value) != known.end(), "data.", key, ": expected one of ", join(known),
          ", found '", value, "'", did_you_mean(value, known));
  };
  one_of("encoding", options.encoding, encoding_names());
  one_of("bad_rows", options.bad_rows, {"error", "skip"});
  const std::string text = read_text_file(file, {.name = options.encoding});
  Table table;
  table.format = choose_format(file, text, options);
  check_keys(file, table.format, options);
  RowErrors errors;
  if (table.format == "jsonl" || table.format == "json") read_json(table, file, text, options, errors);
  else if (table.format == "text") read_lines(table, file, text, options);
  else if (table.format == "conll") read_conll(table, file, text, options, errors);
  else read_records(table, file, text, options, errors);
  leave_useless(table, options, errors);
  settle(table, file, options, errors);
  check(!table.rows.empty(), "data file ", file.string(), " has no rows");
  return table;
}

}  // namespace deeplora
