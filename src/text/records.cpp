#include "text/records.h"

#include <algorithm>

#include "core/error.h"

namespace deeplora {
namespace {

/// \r in a text where it stands outside of quotes and \n nowhere does, else \n.
char line_end(std::string_view text, bool quoted) {
  bool open = false, alone = false;
  for (size_t at = 0; at < text.size(); ++at) {
    if (quoted && text[at] == '"') open = !open;
    if (open) continue;
    if (text[at] == '\n') return '\n';
    alone = alone || text[at] == '\r';
  }
  return alone ? '\r' : '\n';
}

}  // namespace

RecordReader::RecordReader(std::string_view text, Dialect dialect, size_t first_line)
    : text_(text), dialect_(dialect), end_(line_end(text, dialect.quoted)), line_(first_line) {}

bool RecordReader::at_line_end() const {
  if (at_ >= text_.size() || text_[at_] == end_) return true;
  const std::string_view rest = text_.substr(at_);
  return rest.starts_with("\r\n") || rest == "\r";
}

void RecordReader::skip_blank_lines() {
  const char* blanks = dialect_.separator == '\t' ? " \r" : " \t\r";
  while (at_ < text_.size()) {
    const size_t end = std::min(text_.find(end_, at_), text_.size());
    if (text_.substr(at_, end - at_).find_first_not_of(blanks) != std::string_view::npos) return;
    at_ = end + 1;
    ++line_;
  }
}

void RecordReader::end_line() {
  if (end_ == '\n' && peek() == '\r') ++at_;
  ++at_;
  if (end_ == '\r' && at_ < text_.size() && text_[at_] == '\n') ++at_;  // a last line that ends otherwise
  ++line_;
}

std::string RecordReader::plain(Record& record) {
  const size_t begin = at_;
  const char ends[] = {dialect_.separator, end_, '\0'};
  at_ = std::min(text_.find_first_of(ends, begin, 2), text_.size());
  std::string_view value = text_.substr(begin, at_ - begin);
  if (end_ == '\n' && peek() == '\n' && value.ends_with('\r')) {
    value.remove_suffix(1);
    --at_;
  }
  if (dialect_.quoted && value.find('"') != std::string_view::npos) record.stray_quote = true;
  return std::string(value);
}

std::string RecordReader::quoted(Record& record) {
  const size_t opened = line_;
  std::string value;
  record.quoted = true;
  for (++at_;;) {
    const size_t quote = text_.find('"', at_);
    if (quote == std::string_view::npos) {
      record.mistake =
          cat(opened == record.line ? "" : cat("in line ", opened, " "),
              "a quote is opened and never closed; write \"\" for a quote inside a field, or set data.quoting: none");
      at_ = text_.size();
      return value;
    }
    const std::string_view part = text_.substr(at_, quote - at_);
    value += part;
    line_ += static_cast<size_t>(std::count(part.begin(), part.end(), end_));
    at_ = quote + 1;
    if (at_ >= text_.size() || text_[at_] != '"') break;
    value += '"';
    ++at_;
  }
  if (at_line_end() || peek() == dialect_.separator) return value;
  record.mistake =
      "text after the closing quote of a field; write \"\" for a quote inside a field, or set data.quoting: none";
  at_ = std::min(text_.find(end_, at_), text_.size());
  return value;
}

bool RecordReader::next(Record& record) {
  skip_blank_lines();
  if (at_ >= text_.size()) return false;
  record.line = line_;
  record.values.clear();
  record.mistake.clear();
  record.quoted = record.stray_quote = false;
  for (bool more = true; more;) {
    std::string value = dialect_.quoted && peek() == '"' ? quoted(record) : plain(record);
    if (record.values.size() <= kMostColumns) record.values.push_back(std::move(value));
    more = record.mistake.empty() && at_ < text_.size() && text_[at_] == dialect_.separator;
    if (more) ++at_;
  }
  end_line();
  return true;
}

}  // namespace deeplora
