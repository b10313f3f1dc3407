#include "ratings/separator.h"

#include <algorithm>
#include <array>
#include <map>
#include <vector>

#include "core/error.h"
#include "ratings/delimited.h"

namespace deeplora {
namespace {

constexpr size_t kSampled = 1000;  // lines that are looked at where nothing is in doubt

/// How a separator would cut a text.
struct Fit {
  std::string separator;
  size_t lines = 0;      ///< that have the commonest number of fields
  bool numbers = false;  ///< beyond the first line, one column at least holds numbers and blanks alone
};

/// Per column of lines of one width: a text was seen; a number was seen.
struct ColumnKinds {
  std::vector<bool> text, number;
  void add(const std::vector<std::string_view>& fields) {
    text.resize(fields.size());
    number.resize(fields.size());
    for (size_t i = 0; i < fields.size(); ++i) {
      const bool is_number = as_number(fields[i]).has_value();
      number[i] = number[i] || is_number;
      text[i] = text[i] || (!is_number && !is_missing(fields[i]));
    }
  }
  bool any_of_numbers() const {
    for (size_t i = 0; i < text.size(); ++i)
      if (number[i] && !text[i]) return true;
    return false;
  }
};

Fit fit_of(const std::string& separator, std::string_view text, size_t least, size_t most_lines) {
  FieldCutter cutter(separator);
  Lines lines(text);
  std::vector<std::string_view> fields;
  std::map<size_t, std::pair<size_t, ColumnKinds>> widths;
  size_t seen = 0;
  for (std::string_view line; seen < most_lines && lines.next(line);) {
    if (is_blank(line)) continue;
    const bool first = seen++ == 0;
    if (!cutter.cut(line, fields) || fields.size() < least) continue;
    auto& [count, kinds] = widths[fields.size()];
    ++count;
    if (!first && seen <= kSampled) kinds.add(fields);
  }
  Fit out{.separator = separator};
  for (const auto& [width, found] : widths)
    if (found.first > out.lines) out.lines = found.first, out.numbers = found.second.any_of_numbers();
  return out;
}

std::string shown(const std::string& separator) { return separator == "\t" ? "tab" : cat("'", separator, "'"); }

std::string guessed(const std::filesystem::path& file, std::string_view text, size_t least) {
  std::vector<std::string> present;
  for (const char* separator : {"::", "\t", ";", ","})
    if (text.find(separator) != std::string_view::npos) present.emplace_back(separator);
  const size_t most_lines = present.size() > 1 ? text.size() : kSampled;
  std::vector<Fit> best;
  for (const auto& separator : present) {
    const Fit fit = fit_of(separator, text, least, most_lines);
    if (fit.lines == 0 || (!best.empty() && fit.lines < best[0].lines)) continue;
    if (!best.empty() && fit.lines > best[0].lines) best.clear();
    best.push_back(fit);
  }
  const Fit spaces = fit_of(" ", text, least, most_lines);
  if (best.empty()) return spaces.lines > 0 || present.empty() ? " " : present[0];
  if (std::any_of(best.begin(), best.end(), [](const Fit& fit) { return fit.numbers; }))
    std::erase_if(best, [](const Fit& fit) { return !fit.numbers; });
  const bool by_spaces =
      spaces.lines > best[0].lines || (spaces.lines == best[0].lines && spaces.numbers && !best[0].numbers);
  if (by_spaces) return " ";
  check(best.size() == 1, file.string(), ": the lines can be cut at ", shown(best[0].separator), " and at ",
        shown(best.back().separator), " alike; set completion.separator");
  return best[0].separator;
}

}  // namespace

std::string separator_of(const std::filesystem::path& file, const std::string& word, std::string_view text,
                         size_t least) {
  if (word == "auto") return guessed(file, text, least);
  const std::array<std::pair<const char*, const char*>, 10> known{{{"comma", ","},
                                                                   {",", ","},
                                                                   {"tab", "\t"},
                                                                   {"\t", "\t"},
                                                                   {"\\t", "\t"},
                                                                   {"semicolon", ";"},
                                                                   {";", ";"},
                                                                   {"space", " "},
                                                                   {" ", " "},
                                                                   {"::", "::"}}};
  for (const auto& [name, separator] : known)
    if (word == name) return separator;
  const std::vector<std::string> words{"auto", "comma", "tab", "semicolon", "space", "::"};
  fail("completion.separator: expected one of ", join(words), ", found '", word, "'", did_you_mean(word, words));
}

}  // namespace deeplora
