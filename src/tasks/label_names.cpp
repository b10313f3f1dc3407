#include "tasks/label_names.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "core/error.h"

namespace deeplora {
namespace {

std::string_view take_digits(std::string_view& text) {
  const size_t end = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string_view digits = text.substr(0, end);
  text.remove_prefix(end);
  return digits;
}

/// "e-05" off the front of the text; absent when it is no exponent or one of more than nine digits.
std::optional<long> take_exponent(std::string_view& text) {
  if (text.empty()) return 0;
  if (text.front() != 'e' && text.front() != 'E') return std::nullopt;
  text.remove_prefix(1);
  const bool minus = text.starts_with('-');
  if (minus || text.starts_with('+')) text.remove_prefix(1);
  const std::string digits(take_digits(text));
  if (digits.empty() || digits.size() > 9) return std::nullopt;
  return minus ? -std::stol(digits) : std::stol(digits);
}

/// Decimal digits, zeros in front allowed; not "nan", "inf" or "0x1", which have no place among numbers.
bool is_plain_number(const std::string& text) {
  if (text.find_first_not_of("0123456789+-.eE") != std::string::npos) return false;
  char* end = nullptr;
  std::strtod(text.c_str(), &end);
  return !text.empty() && *end == '\0';
}

}  // namespace

std::string_view without_blanks(std::string_view text) {
  const char* blanks = " \t\r\n\f\v";
  const size_t begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

std::optional<std::string> number_form(std::string_view text) {
  const bool minus = text.starts_with('-');
  if (minus) text.remove_prefix(1);
  const std::string_view whole = take_digits(text);
  if (whole.size() > 1 && whole.front() == '0') return std::nullopt;
  std::string_view fraction;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    fraction = take_digits(text);
  }
  if (whole.empty() && fraction.empty()) return std::nullopt;
  const auto power = take_exponent(text);
  if (!power || !text.empty()) return std::nullopt;
  std::string digits = std::string(whole) + std::string(fraction);
  long exponent = *power - static_cast<long>(fraction.size());
  digits.erase(0, digits.find_first_not_of('0'));
  while (digits.ends_with('0')) {
    digits.pop_back();
    ++exponent;
  }
  if (digits.empty()) return "0e0";
  return (minus ? "-" : "") + digits + "e" + std::to_string(exponent);
}

LabelNames LabelNames::of(const std::set<std::string>& found) {
  LabelNames out;
  const bool numbers =
      std::all_of(found.begin(), found.end(), [](const auto& label) { return number_form(label).has_value(); });
  std::map<std::string, std::string> name_of;  // number -> shortest spelling
  if (numbers)
    for (const auto& label : found) {
      auto& name = name_of[*number_form(label)];
      if (name.empty() || label.size() < name.size()) name = label;
    }
  for (const auto& label : found) {
    const std::string& name = numbers ? name_of.at(*number_form(label)) : label;
    if (name == label) out.names_.push_back(label);
    else out.respelt_.emplace_back(label, name);
  }
  // "10" after "9".
  if (std::all_of(out.names_.begin(), out.names_.end(), is_plain_number))
    std::stable_sort(out.names_.begin(), out.names_.end(), [](const auto& a, const auto& b) {
      return std::strtod(a.c_str(), nullptr) < std::strtod(b.c_str(), nullptr);
    });
  out.index();
  return out;
}

namespace {

/// "LABEL_2" and "2" -> 2, below `count`; nothing for other texts.
std::optional<int64_t> class_number(std::string_view label, size_t count) {
  constexpr std::string_view kPlaceholder = "LABEL_";
  if (label.starts_with(kPlaceholder)) label.remove_prefix(kPlaceholder.size());
  if (label.empty() || label.size() > 9 || label.find_first_not_of("0123456789") != std::string_view::npos ||
      (label.size() > 1 && label.front() == '0'))
    return std::nullopt;
  const long number = std::stol(std::string(label));
  return static_cast<size_t>(number) < count ? std::optional<int64_t>(number) : std::nullopt;
}

bool are_placeholders(const std::vector<std::string>& names) {
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i] != "LABEL_" + std::to_string(i)) return false;
  return true;
}

std::string lowered(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

}  // namespace

LabelNames LabelNames::of_model(std::vector<std::string> classes, const std::set<std::string>& found) {
  if (are_placeholders(classes)) {
    const auto is_number = [&](const std::string& label) { return class_number(label, classes.size()).has_value(); };
    if (!std::all_of(found.begin(), found.end(), is_number)) return of(found);
    for (const auto& label : found) classes[static_cast<size_t>(*class_number(label, classes.size()))] = label;
  }
  LabelNames out = in_order(std::move(classes));
  out.the_models_ = true;
  std::vector<std::string> strangers;
  for (const auto& label : found)
    if (!out.find(label)) strangers.push_back("'" + label + "'");
  check(strangers.empty(), join(strangers), strangers.size() == 1 ? " is none" : " are none",
        " of the classes of the model's own head: ", join(out.names_, ", ", 12),
        "; head.type: linear puts a new head on the model");
  return out;
}

std::optional<int64_t> LabelNames::find_as_the_models(std::string_view label) const {
  std::optional<int64_t> out;
  const std::string plain = lowered(label);
  for (size_t i = 0; i < names_.size(); ++i) {
    if (lowered(names_[i]) != plain) continue;
    if (out) return std::nullopt;  // two names that differ in their case alone
    out = static_cast<int64_t>(i);
  }
  return out ? out : class_number(label, names_.size());
}

LabelNames LabelNames::in_order(std::vector<std::string> names) {
  LabelNames out;
  out.names_ = std::move(names);
  out.index();
  return out;
}

void LabelNames::index() {
  for (size_t i = 0; i < names_.size(); ++i) {
    classes_.emplace(names_[i], static_cast<int64_t>(i));
    if (const auto number = number_form(names_[i])) numbers_.emplace(*number, static_cast<int64_t>(i));
  }
  if (numbers_.size() != names_.size()) numbers_.clear();
}

std::optional<int64_t> LabelNames::find(std::string_view label) const {
  if (const auto found = classes_.find(label); found != classes_.end()) return found->second;
  label = without_blanks(label);
  if (const auto found = classes_.find(label); found != classes_.end()) return found->second;
  const auto number = numbers_.empty() ? std::nullopt : number_form(label);
  if (const auto found = number ? numbers_.find(*number) : numbers_.end(); found != numbers_.end())
    return found->second;
  return the_models_ && numbers_.empty() ? find_as_the_models(label) : std::nullopt;
}

}  // namespace deeplora
