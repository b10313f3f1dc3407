#include "ratings/delimited.h"

#include <algorithm>
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
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

std::optional<int> digits(std::string_view s) {
  int value = 0;
  const auto [end, failed] = std::from_chars(s.data(), s.data() + s.size(), value);
  if (s.empty() || s[0] == '-' || failed != std::errc() || end != s.data() + s.size()) return std::nullopt;
  return value;
}

/// Two digits taken off the front.
std::optional<int> take_pair(std::string_view& rest) {
  if (rest.size() < 2) return std::nullopt;
  const auto value = digits(rest.substr(0, 2));
  if (value && *value >= 0) rest.remove_prefix(2);
  return value;
}

/// "12:30", "12:30:05" or "12:30:05.25" in seconds.
std::optional<double> take_time_of_day(std::string_view& rest) {
  const auto hour = take_pair(rest);
  if (!hour || *hour > 23 || !rest.starts_with(':')) return std::nullopt;
  rest.remove_prefix(1);
  const auto minute = take_pair(rest);
  if (!minute || *minute > 59) return std::nullopt;
  double seconds = 3600.0 * *hour + 60.0 * *minute;
  if (!rest.starts_with(':')) return seconds;
  rest.remove_prefix(1);
  const auto second = take_pair(rest);
  if (!second || *second > 60) return std::nullopt;
  seconds += *second;
  if (!rest.starts_with('.')) return seconds;
  const size_t end = std::min(rest.find_first_not_of("0123456789", 1), rest.size());
  const auto part = end > 1 ? as_number(rest.substr(0, end)) : std::nullopt;
  if (!part) return std::nullopt;
  rest.remove_prefix(end);
  return seconds + *part;
}

/// How far local time is ahead of Greenwich, in seconds: "", "Z", "+02:00", "-0530", "+02", with or without a space
/// before it.
std::optional<double> take_zone(std::string_view& rest) {
  if (rest.starts_with(' ')) rest.remove_prefix(1);
  if (rest.empty()) return 0.0;
  if (rest == "Z" || rest == "z" || rest == "UTC") {
    rest = {};
    return 0.0;
  }
  const double sign = rest[0] == '-' ? -1 : 1;
  if (rest[0] != '+' && rest[0] != '-') return std::nullopt;
  rest.remove_prefix(1);
  const auto hours = take_pair(rest);
  if (!hours || *hours > 23) return std::nullopt;
  if (rest.empty()) return sign * 3600 * *hours;
  if (rest.starts_with(':')) rest.remove_prefix(1);
  const auto minutes = take_pair(rest);
  if (!minutes || *minutes > 59) return std::nullopt;
  return sign * (3600.0 * *hours + 60.0 * *minutes);
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

bool FieldCutter::at_separator(std::string_view rest) const {
  return separator_ == " " ? rest.starts_with(' ') || rest.starts_with('\t') : rest.starts_with(separator_);
}

/// Spaces around fields, and tabs where they do not part fields.
void FieldCutter::skip_padding(std::string_view& rest) const {
  const char* padding = separator_ == "\t" ? " " : " \t";
  rest.remove_prefix(std::min(rest.find_first_not_of(padding), rest.size()));
}

bool FieldCutter::take_quoted(std::string_view& rest, std::string& value) const {
  for (rest.remove_prefix(1);;) {
    const size_t quote = rest.find('"');
    if (quote == std::string_view::npos) return false;
    value += rest.substr(0, quote);
    rest.remove_prefix(quote + 1);
    if (!rest.starts_with('"')) break;
    value += '"';
    rest.remove_prefix(1);
  }
  if (separator_ == " ") return rest.empty() || at_separator(rest);
  skip_padding(rest);
  return rest.empty() || at_separator(rest);
}

bool FieldCutter::cut_quoted(std::string_view line, std::vector<std::string_view>& fields) {
  unquoted_.clear();
  std::string_view rest = line;
  if (rest.ends_with('\r')) rest.remove_suffix(1);
  for (;;) {
    skip_padding(rest);
    if (separator_ == " " && rest.empty()) break;
    std::string value;
    if (rest.starts_with('"')) {
      if (!take_quoted(rest, value)) return false;
    } else {
      const size_t end = separator_ == " " ? rest.find_first_of(" \t") : rest.find(separator_);
      value = trimmed(rest.substr(0, end));
      rest.remove_prefix(std::min(end, rest.size()));
    }
    unquoted_.push_back(std::move(value));
    if (rest.empty()) break;
    rest.remove_prefix(separator_.size());
  }
  fields.assign(unquoted_.begin(), unquoted_.end());
  return true;
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
  const double midnight = 86400.0 * static_cast<double>(std::chrono::sys_days(date).time_since_epoch().count());
  field.remove_prefix(10);
  if (field.empty()) return midnight;
  if (field[0] != ' ' && field[0] != 'T') return std::nullopt;
  field.remove_prefix(1);
  const auto seconds = take_time_of_day(field);
  const auto ahead = seconds ? take_zone(field) : std::nullopt;
  if (!ahead || !field.empty()) return std::nullopt;
  return midnight + *seconds - *ahead;
}

}  // namespace deeplora
