#include "text/table_form.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>
#include <set>

#include "core/error.h"
#include "text/conll_rows.h"
#include "text/row_errors.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr size_t kSample = size_t{1} << 20;  ///< bytes that tell a separator
constexpr size_t kSampleRows = 1000;

using Names = std::vector<std::string>;

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

bool contains(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// Names by which a header is known.
Names names_of(const TableOptions& options) {
  Names out = options.known;
  for (const auto& name : options.wanted) {
    out.push_back(name);
    const auto found = options.aliases.find(name);
    if (found != options.aliases.end()) out.insert(out.end(), found->second.begin(), found->second.end());
  }
  std::erase_if(out, [](const std::string& name) { return as_index(name).has_value(); });
  return out;
}

size_t known_among(const Names& values, const Names& names) {
  return static_cast<size_t>(
      std::count_if(values.begin(), values.end(), [&](const auto& value) { return contains(names, value); }));
}

/// The text has one column, and that is all that is wanted of it.
bool wants_text_alone(const TableOptions& options) {
  return std::all_of(options.wanted.begin(), options.wanted.end(), [&](const std::string& name) {
    const auto found = options.aliases.find(name);
    return name == "text" || name == "0" || (found != options.aliases.end() && contains(found->second, "text"));
  });
}

std::string_view first_line_of(std::string_view text) {
  return text.substr(0, std::min(text.find_first_of("\r\n"), text.size()));
}

// ---- separators ----

/// How a sample of a text reads with one separator.
struct Reading {
  Dialect dialect;
  size_t columns = 0;          ///< of the first record
  size_t named = 0;            ///< known names in the first record
  size_t rows = 0, alike = 0;  ///< records of the sample, and those with as many columns as the first

  bool consistent() const { return columns >= 2 && alike == rows; }
  bool mostly() const { return columns >= 2 && alike * 10 >= rows * 9; }
};

/// Every row that has quotes has them as writers of quoted text put them, and all rows are of one length.
bool quotes_balance(std::string_view text, char separator) {
  if (text.find('"') == std::string_view::npos) return false;
  RecordReader reader(text, {separator, true});
  Record record;
  size_t columns = 0;
  bool quoted = false;
  while (reader.next(record)) {
    if (columns == 0) columns = record.values.size();
    if (!record.mistake.empty() || record.stray_quote || record.values.size() != columns) return false;
    quoted = quoted || record.quoted;
  }
  return quoted;
}

bool choose_quoting(std::string_view text, char separator, const TableOptions& options) {
  const Names known{"auto", "none", "double"};
  check(contains(known, options.quoting), "data.quoting: expected one of ", join(known), ", found '", options.quoting,
        "'");
  if (options.quoting != "auto") return options.quoting == "double";
  return separator != '\t' || quotes_balance(text, separator);
}

Reading read_sample(std::string_view text, char separator, const Names& names, const TableOptions& options) {
  const bool cut = text.size() > kSample;
  const std::string_view sample = cut ? text.substr(0, kSample) : text;
  Reading out{{separator, choose_quoting(sample, separator, options)}};
  RecordReader reader(sample, out.dialect);
  Record record, next;
  for (bool more = reader.next(record); more && out.rows < kSampleRows; std::swap(record, next)) {
    more = reader.next(next);
    if (cut && !more && out.rows > 0) break;  // the last record of the sample may be half of one
    if (out.rows++ == 0) {
      out.columns = record.values.size();
      out.named = known_among(record.values, names);
    }
    out.alike += record.mistake.empty() && record.values.size() == out.columns;
  }
  return out;
}

std::vector<Reading> read_samples(std::string_view text, const std::string& candidates, const TableOptions& options) {
  std::vector<Reading> out;
  const Names names = names_of(options);
  for (const char separator : candidates)
    if (text.substr(0, kSample).find(separator) != std::string_view::npos)
      out.push_back(read_sample(text, separator, names, options));
  return out;
}

/// The reading whose first record holds most of the known names.
const Reading* best_named(const std::vector<Reading>& readings) {
  const Reading* best = nullptr;
  for (const auto& reading : readings) {
    if (reading.columns < 2 || reading.named == 0) continue;
    if (!best || reading.named > best->named ||
        (reading.named == best->named && reading.consistent() && !best->consistent()))
      best = &reading;
  }
  return best;
}

char choose_separator(const fs::path& file, std::string_view text, const std::string& format,
                      const TableOptions& options) {
  const auto readings = read_samples(text, format == "tsv" ? "\t,;|" : ",;\t|", options);
  if (const Reading* named = best_named(readings)) return named->dialect.separator;
  const char usual = format == "tsv" ? '\t' : ',';
  if (format == "tsv") return usual;
  for (const bool all : {true, false}) {
    std::vector<char> fit;
    std::vector<std::string> shown;
    for (const auto& reading : readings) {
      if (!(all ? reading.consistent() : reading.mostly())) continue;
      fit.push_back(reading.dialect.separator);
      shown.push_back(shown_separator(fit.back()));
      if (reading.rows == 1 && fit.back() != usual) shown.push_back(shown_separator(usual));  // one row proves little
    }
    check(shown.size() < 2, file.string(), ": set data.separator to one of ", join(shown),
          ": the rows can be told apart by each of them");
    if (!fit.empty()) return fit.front();
  }
  return usual;
}

std::optional<char> separator_of(const std::string& name) {
  const std::map<std::string, char> words{
      {"comma", ','}, {"semicolon", ';'}, {"tab", '\t'}, {"\\t", '\t'}, {"pipe", '|'}};
  const auto found = words.find(name);
  if (found != words.end()) return found->second;
  if (name == "auto") return std::nullopt;
  const auto code = name.size() == 1 ? static_cast<unsigned char>(name[0]) : 0U;
  check((code >= ' ' || code == '\t') && code < 0x7F && code != '"' && !std::isalnum(static_cast<int>(code)),
        "data.separator: expected auto, comma, semicolon, tab, pipe or one character that is no letter, digit or "
        "quote, found '",
        name, "'");
  return static_cast<char>(code);
}

/// "sep=;" as spreadsheets write it, its line end included; 0 characters without it.
std::pair<char, size_t> separator_line(std::string_view text) {
  std::string_view line = first_line_of(text);
  const size_t length = line.size();
  if (line.size() > 2 && line.front() == '"' && line.back() == '"') line = line.substr(1, line.size() - 2);
  if (line.size() != 5 || lower(std::string(line.substr(0, 4))) != "sep=") return {0, 0};
  size_t end = length;
  if (text.substr(end).starts_with("\r\n")) end += 2;
  else if (end < text.size()) ++end;
  return {line[4], end};
}

// ---- headers ----

const std::set<std::string> kUsualNames{
    "text",      "label",    "labels",    "sentence",   "sentence1", "sentence2",  "sentence_1",  "sentence_2",
    "id",        "idx",      "index",     "class",      "target",    "category",   "score",       "rating",
    "stars",     "review",   "title",     "content",    "body",      "comment",    "question",    "question1",
    "question2", "answer",   "premise",   "hypothesis", "prompt",    "completion", "instruction", "input",
    "output",    "response", "sentiment", "message",    "tweet",     "document",   "summary",     "source",
    "context",   "x",        "y",         "name",       "date",      "user",       "item",        "lang"};

bool is_number(std::string_view text) {
  double value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  return !text.empty() && failed == std::errc() && end == text.data() + text.size();
}

/// One column below the first record.
struct ColumnBelow {
  size_t filled = 0, numbers = 0, phrases = 0;  ///< cells that are not empty, numbers, several words
  bool again = false;                           ///< the first record's cell occurs again
  std::map<std::string, size_t> values;         ///< how often each occurs, while they are few

  void add(const std::string& value, const std::string& first) {
    again = again || value == first;
    if (value.empty()) return;
    ++filled;
    numbers += is_number(value);
    phrases += value.find(' ') != std::string::npos;
    if (values.size() < 1000) ++values[value];
  }
  /// Few different cells, each of them several times: classes.
  bool classes() const {
    return filled >= 4 && values.size() * 2 <= filled &&
           std::all_of(values.begin(), values.end(), [](const auto& value) { return value.second >= 2; });
  }
};

enum class Evidence { none, some, plain };

/// Whether the first record is one of names, judged by what stands below it.
Evidence header_evidence(const Names& first, const std::vector<ColumnBelow>& below,
                         const std::vector<std::string>& wanted) {
  Evidence out = Evidence::none;
  for (size_t i = 0; i < first.size(); ++i) {
    const ColumnBelow& column = below[i];
    const bool asked = std::any_of(wanted.begin(), wanted.end(), [&](const auto& name) { return as_index(name) == i; });
    if (kUsualNames.count(lower(first[i])) && !column.again) return Evidence::plain;
    const bool above_numbers =
        !first[i].empty() && !is_number(first[i]) && column.filled > 0 && column.numbers == column.filled;
    if (above_numbers && column.filled >= 3) return Evidence::plain;
    const bool word_above_phrases =
        first[i].find(' ') == std::string::npos && column.filled >= 3 && column.phrases == column.filled;
    if (above_numbers || (asked && !column.again && (word_above_phrases || (column.classes() && !is_number(first[i])))))
      out = Evidence::some;
  }
  return out;
}

}  // namespace

std::string shown_record(const std::vector<std::string>& values) {
  Names out;
  for (const auto& value : values) out.push_back(shortened(value, 40));
  return join(out, " | ");
}

std::string at_line(const fs::path& file, size_t line) { return cat(file.string(), ":", line); }

std::optional<size_t> as_index(const std::string& name) {
  size_t value = 0;
  const char* end = name.data() + name.size();
  const auto [rest, failed] = std::from_chars(name.data(), end, value);
  if (name.empty() || failed != std::errc() || rest != end) return std::nullopt;
  return value;
}

std::string shown_separator(char separator) { return separator == '\t' ? "tab" : std::string(1, separator); }

std::string choose_format(const fs::path& file, std::string_view text, const TableOptions& options) {
  const Names known{"jsonl", "json", "tsv", "csv", "conll", "text"};
  const size_t begin = std::min(text.find_first_not_of(" \t\r\n"), text.size());
  const std::string_view content = text.substr(begin);
  const size_t inner = content.size() > 1 ? std::min(content.find_first_not_of(" \t\r\n", 1), content.size() - 1) : 0;
  const bool list = content.starts_with('[') && (content[inner] == '{' || content[inner] == ']');
  if (options.format != "auto") {
    check(contains(known, options.format), "data.format: expected one of auto, ", join(known), ", found '",
          options.format, "'", did_you_mean(options.format, known));
    return options.format;
  }
  const std::string extension = lower(file.extension().string());
  if (extension == ".jsonl" || extension == ".ndjson" || extension == ".json") return list ? "json" : "jsonl";
  if (extension == ".tsv") return "tsv";
  if (extension == ".csv") return "csv";
  if (is_conll_extension(extension)) return "conll";
  if (extension == ".txt" && wants_text_alone(options)) return "text";
  if (list) return "json";
  if (content.starts_with('{') && (content[inner] == '"' || content[inner] == '}')) return "jsonl";
  if (options.conll.usual) return "conll";
  const auto readings = read_samples(text, ",;\t|", options);
  const Reading* named = best_named(readings);
  const bool one_name = known_among({std::string(first_line_of(text))}, names_of(options)) == 1;
  if (named || one_name) return named && named->dialect.separator == '\t' ? "tsv" : "csv";
  if (wants_text_alone(options) && !content.starts_with("PAR1")) return "text";
  for (const auto& reading : readings)
    if (reading.consistent()) return reading.dialect.separator == '\t' ? "tsv" : "csv";
  fail("data file ", file.string(), ": set data.format to one of ", join(known), ": neither its extension '", extension,
       "' nor its content tells");
}

DelimitedForm choose_dialect(const fs::path& file, std::string_view text, const std::string& format,
                             const TableOptions& options) {
  DelimitedForm out;
  const auto asked = separator_of(options.separator);
  const auto [written, length] = separator_line(text);
  check(length == 0 || !asked || *asked == written, file.string(), ":1: the file says sep=", shown_separator(written),
        ", but data.separator is ", shown_separator(asked.value_or(',')), "; leave the key out");
  out.begin = length;
  out.first_line = length > 0 ? 2 : 1;
  const std::string_view rows = text.substr(length);
  out.dialect.separator = asked ? *asked : length > 0 ? written : choose_separator(file, rows, format, options);
  out.dialect.quoted = choose_quoting(rows, out.dialect.separator, options);
  return out;
}

bool choose_header(const fs::path& file, std::string_view text, const DelimitedForm& form,
                   const TableOptions& options) {
  const Names known{"auto", "yes", "no", "true", "false"};
  check(contains(known, options.header), "data.header: expected one of ", join(known), ", found '", options.header,
        "' (", file.string(), ")");
  if (options.header != "auto") return options.header == "yes" || options.header == "true";
  RecordReader reader(text.substr(form.begin), form.dialect, form.first_line);
  Record first, record;
  if (!reader.next(first)) return false;
  if (known_among(first.values, names_of(options)) > 0) return true;
  const bool by_number = !options.wanted.empty() && std::all_of(options.wanted.begin(), options.wanted.end(),
                                                                [](const auto& name) { return as_index(name); });
  if (!by_number) return false;
  std::vector<ColumnBelow> below(first.values.size());
  while (reader.next(record))
    for (size_t i = 0; i < std::min(below.size(), record.values.size()); ++i)
      below[i].add(record.values[i], first.values[i]);
  const Evidence evidence = header_evidence(first.values, below, options.wanted);
  check(evidence != Evidence::some, at_line(file, first.line), ": set data.header: true or false: the first line (",
        shown_record(first.values), ") may be one of column names or a row");
  return evidence == Evidence::plain;
}

}  // namespace deeplora
