#include "ratings/delimited.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <chrono>

namespace deeplora {
namespace {

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t' || s.front() == '\r')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t' || s.back() == '\r')) s.remove_suffix(1);
  return s;
}

std::string lower(std::string_view s) {
  std::string out(s);
  std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

std::optional<int> digits(std::string_view s) {
  int value = 0;
  const auto [end, failed] = std::from_chars(s.data(), s.data() + s.size(), value);
  if (s.empty() || failed != std::errc() || end != s.data() + s.size()) return std::nullopt;
  return value;
}

}  // namespace

bool FieldCutter::cut(std::string_view line, std::vector<std::string_view>& fields) {
  fields.clear();
  if (line.find('"') != std::string_view::npos) return cut_quoted(line, fields);
  if (separator_ == " ") {
    for (size_t at = 0; (at = line.find_first_not_of(" \t\r", at)) != std::string_view::npos;) {
      const size_t end = std::min(line.find_first_of(" \t\r", at), line.size());
      fields.push_back(line.substr(at, end - at));
      at = end;
    }
    return true;
  }
  for (size_t begin = 0;;) {
    const size_t end = line.find(separator_, begin);
    fields.push_back(trimmed(line.substr(begin, end == std::string_view::npos ? end : end - begin)));
    if (end == std::string_view::npos) return true;
    begin = end + separator_.size();
  }
}

bool FieldCutter::cut_quoted(std::string_view line, std::vector<std::string_view>& fields) {
  unquoted_.clear();
  std::string_view rest = trimmed(line);
  for (;;) {
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    std::string value;
    if (rest.starts_with('"')) {
      for (rest.remove_prefix(1);;) {
        const size_t quote = rest.find('"');
        if (quote == std::string_view::npos) return false;
        value += rest.substr(0, quote);
        rest.remove_prefix(quote + 1);
        if (!rest.starts_with('"')) break;
        value += '"';
        rest.remove_prefix(1);
      }
      rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
      if (!rest.empty() && !rest.starts_with(separator_) && separator_ != " ") return false;
    } else {
      const size_t end = std::min(rest.find(separator_), rest.size());
      value = trimmed(rest.substr(0, end));
      rest.remove_prefix(end);
    }
    unquoted_.push_back(std::move(value));
    if (rest.empty()) break;
    if (rest.starts_with(separator_)) rest.remove_prefix(separator_.size());
  }
  fields.assign(unquoted_.begin(), unquoted_.end());
  return true;
}

std::string guess_separator(std::string_view text) {
  Lines lines(text);
  for (std::string_view line; lines.next(line);) {
    if (is_blank(line)) continue;
    for (const char* separator : {"::", "\t", ";", ","})
      if (line.find(separator) != std::string_view::npos) return separator;
    return " ";
  }
  return ",";
}

std::string separator_of(const std::string& word, std::string_view text) {
  if (word == "auto") return guess_separator(text);
  const std::array<std::pair<const char*, const char*>, 10> known{{{"comma", ","}, {",", ","}, {"tab", "\t"}, {"\t", "\t"}, {"\\t", "\t"},
                                                                    {"semicolon", ";"}, {";", ";"}, {"space", " "}, {" ", " "}, {"::", "::"}}};
  for (const auto& [name, separator] : known)
    if (word == name) return separator;
  const std::vector<std::string> words{"auto", "comma", "tab", "semicolon", "space", "::"};
  fail("completion.separator: expected one of ", join(words), ", found '", word, "'", did_you_mean(word, words));
}

std::optional<double> as_number(std::string_view field) {
  if (field.starts_with('+')) field.remove_prefix(1);
  double value = 0;
  const auto [end, failed] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (field.empty() || failed != std::errc() || end != field.data() + field.size()) return std::nullopt;
  return value;
}

bool is_missing(std::string_view field) {
  if (field.empty()) return true;
  if (field.size() > 4) return false;
  const std::string word = lower(field);
  return word == "na" || word == "n/a" || word == "nan" || word == "null" || word == "none" || word == "-";
}

std::optional<double> as_time(std::string_view field) {
  if (const auto number = as_number(field)) return number;
  if (field.size() < 10 || field[4] != '-' || field[7] != '-') return std::nullopt;
  const auto year = digits(field.substr(0, 4)), month = digits(field.substr(5, 2)), day = digits(field.substr(8, 2));
  if (!year || !month || !day) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(*year), std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok()) return std::nullopt;
  double seconds = 86400.0 * static_cast<double>(std::chrono::sys_days(date).time_since_epoch().count());
  field.remove_prefix(10);
  if (field.empty()) return seconds;
  if (field.size() < 9 || (field[0] != ' ' && field[0] != 'T') || field[3] != ':' || field[6] != ':') return std::nullopt;
  const auto hour = digits(field.substr(1, 2)), minute = digits(field.substr(4, 2)), second = digits(field.substr(7, 2));
  if (!hour || !minute || !second || *hour > 23 || *minute > 59 || *second > 60) return std::nullopt;
  return seconds + 3600.0 * *hour + 60.0 * *minute + *second;
}

}  // namespace deeplora
