#include "text/json_rows.h"

#include <algorithm>

#include "core/error.h"
#include "core/json_text.h"
#include "text/table_form.h"
#include "text/text_lines.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;

std::string json_mistake(const nlohmann::json::parse_error& e) {
  std::string what = e.what();  // "[json.exception.parse_error.101] parse error at line 1, column 9: syntax error ..."
  const size_t colon = what.find(": ");
  if (colon != std::string::npos) what.erase(0, colon + 2);
  return cat("not valid JSON at byte ", e.byte, ": ", what);
}

/// Adds the row, or what is wrong with it.
void add_row(std::vector<Row>& rows, std::string source, std::string_view json, RowErrors& errors) {
  if (nests_too_deep(json)) return errors.add(source, cat("nests deeper than ", kDeepestJson, " levels"));
  Row row{std::move(source), {}};
  try {
    row.fields = Json::parse(json);
  } catch (const nlohmann::json::parse_error& e) {
    return errors.add(row.source, json_mistake(e));
  } catch (const nlohmann::json::exception&) {
    return errors.add(row.source, "a number is out of range");
  }
  if (!row.fields.is_object())
    return errors.add(row.source, cat("expected a JSON object {...} for every row, found ", row.fields.type_name()));
  rows.push_back(std::move(row));
}

/// Length of the value that a text begins with: up to the comma or bracket behind it, outside of strings and inner
/// brackets.
size_t value_length(std::string_view text) {
  int64_t depth = 0;
  bool in_string = false;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string) {
      if (c == '\\') ++at;
      else if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if ((c == ',' || c == ']' || c == '}') && depth == 0) return at;
    depth += (c == '{' || c == '[') - (c == '}' || c == ']');
  }
  return text.size();
}

/// A place in a text that knows its line.
class Walk {
 public:
  explicit Walk(std::string_view text) : text_(text) {}
  void skip(size_t count) {
    line_ += static_cast<size_t>(
        std::count(text_.begin() + at_, text_.begin() + at_ + static_cast<std::ptrdiff_t>(count), '\n'));
    at_ += static_cast<std::ptrdiff_t>(count);
  }
  void skip_blanks() { skip(std::min(rest().find_first_not_of(" \t\r\n"), rest().size())); }
  std::string_view rest() const { return text_.substr(static_cast<size_t>(at_)); }
  size_t line() const { return line_; }

 private:
  std::string_view text_;
  std::ptrdiff_t at_ = 0;
  size_t line_ = 1;
};

/// One object printed over several lines.
bool is_one_object(std::string_view text) {
  std::string_view line;
  Lines lines(text);
  while (lines.next(line) && is_blank(line)) {
  }
  return !is_blank(line) && !nests_too_deep(text) && !Json::accept(line) && Json::accept(text);
}

}  // namespace

std::vector<Row> read_json_lines(const fs::path& file, std::string_view text, RowErrors& errors) {
  std::vector<Row> rows;
  if (is_one_object(text)) {
    add_row(rows, at_line(file, 1), text, errors);
    return rows;
  }
  Lines lines(text);
  for (std::string_view line; lines.next(line);)
    if (!is_blank(line)) add_row(rows, at_line(file, lines.number()), line, errors);
  return rows;
}

std::vector<Row> read_json_list(const fs::path& file, std::string_view text, RowErrors& errors) {
  std::vector<Row> rows;
  Walk walk(text);
  walk.skip_blanks();
  check(walk.rest().starts_with('['), at_line(file, walk.line()),
        ": expected a list of rows [{...}, {...}]; for an object a line set data.format: jsonl");
  walk.skip(1);
  walk.skip_blanks();
  for (bool more = !walk.rest().starts_with(']'); more;) {
    const size_t line = walk.line(), length = value_length(walk.rest());
    add_row(rows, at_line(file, line), walk.rest().substr(0, length), errors);
    walk.skip(length);
    more = walk.rest().starts_with(',');
    if (more) walk.skip(1);
    walk.skip_blanks();
  }
  check(walk.rest().starts_with(']'), at_line(file, walk.line()),
        ": the list of rows is never closed; expected , or ]");
  walk.skip(1);
  walk.skip_blanks();
  check(walk.rest().empty(), at_line(file, walk.line()), ": text behind the list of rows");
  return rows;
}

}  // namespace deeplora
