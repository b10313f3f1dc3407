#include "text/expression.h"

#include <oniguruma.h>

#include <algorithm>
#include <cctype>
#include <mutex>
#include <optional>

#include "core/error.h"
#include "text/known_splitters.h"
#include "text/unicode.h"
#include "text/unicode_tables.h"

namespace deeplora {
namespace tables = unicode_tables;
namespace {

using Ranges = std::vector<tables::Range>;

std::string lower_name(std::string_view name) {
  std::string out;
  for (const char c : name)
    if (c != ' ' && c != '_' && c != '-') out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

/// General categories whose name begins with `prefix`, in any case.
std::optional<Ranges> category(const std::string& prefix) {
  std::vector<bool> wanted;
  bool any = false;
  for (const auto name : tables::category_names()) {
    wanted.push_back(lower_name(name).starts_with(prefix));
    any = any || wanted.back();
  }
  if (prefix.empty() || prefix.size() > 2 || !any) return std::nullopt;
  Ranges out;
  for (const auto& range : tables::categories())
    if (wanted[static_cast<size_t>(range.category)]) out.push_back({range.first, range.last});
  return out;
}

/// The code points of a named set; nothing where it is not known exactly.
std::optional<Ranges> named_set(const std::string& given) {
  static const std::pair<const char*, const char*> kLongNames[] = {{"letter", "l"},
                                                                   {"uppercaseletter", "lu"},
                                                                   {"lowercaseletter", "ll"},
                                                                   {"titlecaseletter", "lt"},
                                                                   {"modifierletter", "lm"},
                                                                   {"otherletter", "lo"},
                                                                   {"mark", "m"},
                                                                   {"nonspacingmark", "mn"},
                                                                   {"spacingmark", "mc"},
                                                                   {"enclosingmark", "me"},
                                                                   {"number", "n"},
                                                                   {"decimalnumber", "nd"},
                                                                   {"digit", "nd"},
                                                                   {"letternumber", "nl"},
                                                                   {"othernumber", "no"},
                                                                   {"punctuation", "p"},
                                                                   {"symbol", "s"},
                                                                   {"separator", "z"},
                                                                   {"spaceseparator", "zs"},
                                                                   {"other", "c"},
                                                                   {"control", "cc"},
                                                                   {"cntrl", "cc"},
                                                                   {"mathsymbol", "sm"},
                                                                   {"currencysymbol", "sc"}};
  std::string name = lower_name(given);
  for (const auto& [spelled, brief] : kLongNames)
    if (name == spelled) name = brief;
  if (name == "alnum") {
    Ranges out = *named_set("alpha");
    const Ranges digits = *category("nd");
    out.insert(out.end(), digits.begin(), digits.end());
    return out;
  }
  if (name == "space" || name == "whitespace") return Ranges(tables::spaces().begin(), tables::spaces().end());
  for (const auto& set : tables::expression_sets())
    if (set.name == name) return Ranges(set.ranges.begin(), set.ranges.end());
  return category(name);
}

/// Inside a class, the engine's \w lacks these of the first 256 code points, which it has outside.
Ranges without_latin_numbers(const Ranges& ranges) {
  constexpr char32_t kLacking[] = {0xB2, 0xB3, 0xB9, 0xBC, 0xBD, 0xBE};
  Ranges out;
  for (tables::Range range : ranges) {
    for (const char32_t code : kLacking) {
      if (code < range.first || code > range.last) continue;
      if (range.first < code) out.push_back({range.first, code - 1});
      range.first = code + 1;
    }
    if (range.first <= range.last) out.push_back(range);
  }
  return out;
}

/// Every set of characters spelled out, for the engine's own tables are those of whatever Unicode its version has.
class Spelled {
 public:
  Spelled(std::string_view pattern, const std::string& where) : pattern_(pattern), where_(where) {}

  std::string operator()() {
    while (at_ < pattern_.size()) step();
    return std::move(out_);
  }

 private:
  void step() {
    const char c = pattern_[at_];
    if (c == '\\' && at_ + 1 < pattern_.size()) return escape(pattern_[at_ + 1]);
    if (classes_ > 0 && pattern_.substr(at_).starts_with("[:")) return bracket();
    if (c == '[') ++classes_;
    if (c == ']' && classes_ > 0 && !opens_class()) --classes_;
    if (c == '(' && classes_ == 0) groups_.push_back(option());
    if (c == ')' && classes_ == 0 && !groups_.empty()) groups_.pop_back();
    out_ += c;
    ++at_;
  }

  /// A ']' that stands first in a class is itself.
  bool opens_class() const {
    return at_ > 0 && (pattern_[at_ - 1] == '[' || (pattern_[at_ - 1] == '^' && at_ > 1 && pattern_[at_ - 2] == '['));
  }

  bool ignores_case() const { return !groups_.empty() && groups_.back(); }

  /// Whether letters' case is ignored inside the group that opens here.
  bool option() {
    bool ignore = ignores_case();
    std::string_view rest = pattern_.substr(at_);
    if (!rest.starts_with("(?")) return ignore;
    bool on = true;
    for (size_t i = 2; i < rest.size(); ++i) {
      if (rest[i] == '-') on = false;
      else if (rest[i] == 'i') ignore = on;
      else if (rest[i] == ')') {
        if (groups_.empty()) groups_.push_back(ignore);
        else groups_.back() = ignore;
        return ignore;
      } else if (!std::isalpha(static_cast<unsigned char>(rest[i]))) break;
    }
    return rest.find(':') != std::string_view::npos ? ignore : ignores_case();
  }

  void escape(char kind) {
    if (kind == 'p' || kind == 'P') return property(kind == 'P');
    if (kind == 'w' || kind == 'W') return shorthand("word", kind == 'W');
    if (kind == 'd' || kind == 'D') return shorthand("nd", kind == 'D');
    if ((kind == 'b' || kind == 'B') && classes_ == 0) {
      const std::string word = spelled("word", false);
      const std::string inside = "(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" + word + ")";
      const std::string edge = "(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + ")";
      out_ += "(?:" + (kind == 'B' ? inside : edge) + ")";
      at_ += 2;
      return;
    }
    check(kind != 'X' && kind != 'R' && kind != 'y' && kind != 'Y' && kind != 'h' && kind != 'H', where_,
          ": the expression uses \\", std::string(1, kind),
          ", which is not supported; known sets: \\p{...}, \\w, \\d, \\s, \\b");
    out_ += pattern_.substr(at_, 2);
    at_ += 2;
  }

  void shorthand(const char* name, bool inverted) {
    out_ += spelled(name, inverted);
    at_ += 2;
  }

  void property(bool inverted) {
    const size_t open = at_ + 2, close = pattern_.find('}', open);
    check(open < pattern_.size() && pattern_[open] == '{' && close != std::string_view::npos, where_,
          ": the expression has a \\p without {name}");
    std::string_view name = pattern_.substr(open + 1, close - open - 1);
    if (name.starts_with('^')) {
      inverted = !inverted;
      name.remove_prefix(1);
    }
    const std::string kind = lower_name(name);
    check(!ignores_case() || (kind != "lu" && kind != "ll" && kind != "lt" && kind != "upper" && kind != "lower"),
          where_, ": the expression uses \\p{", name, "} where case is ignored, which is not supported");
    out_ += spelled(std::string(name), inverted);
    at_ = close + 1;
  }

  void bracket() {
    const size_t close = pattern_.find(":]", at_);
    check(close != std::string_view::npos, where_, ": the expression has a [: without :]");
    std::string_view name = pattern_.substr(at_ + 2, close - at_ - 2);
    const bool inverted = name.starts_with('^');
    if (inverted) name.remove_prefix(1);
    out_ += spelled(std::string(name), inverted);
    at_ = close + 2;
  }

  std::string spelled(const std::string& name, bool inverted) const {
    auto ranges = named_set(name);
    check(ranges.has_value(), where_, ": the expression names the set of characters '", name,
          "', which is not supported; known: general categories (L, Lu, N, P, ...), Han and other large scripts, "
          "alpha, alnum, punct, space, word");
    if (classes_ > 0 && lower_name(name) == "word") ranges = without_latin_numbers(*ranges);
    std::string out = inverted ? "[^" : "[";
    char buffer[40];
    for (const auto& range : *ranges) {
      std::snprintf(buffer, sizeof buffer, "\\x{%X}-\\x{%X}", static_cast<unsigned>(range.first),
                    static_cast<unsigned>(range.last));
      out += buffer;
    }
    return out + "]";
  }

  std::string_view pattern_;
  const std::string& where_;
  std::string out_;
  size_t at_ = 0;
  int classes_ = 0;           // character classes that are open
  std::vector<bool> groups_;  // per open group: whether case is ignored
};

std::string onig_reason(int code, OnigErrorInfo* info) {
  OnigUChar text[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int length = info ? onig_error_code_to_str(text, code, info) : onig_error_code_to_str(text, code);
  return std::string(reinterpret_cast<const char*>(text), static_cast<size_t>(length));
}

const OnigUChar* bytes_of(std::string_view text) { return reinterpret_cast<const OnigUChar*>(text.data()); }

}  // namespace

struct Expression::Compiled {
  regex_t* regex = nullptr;
  std::string where;

  Compiled() = default;
  Compiled(const Compiled&) = delete;
  Compiled& operator=(const Compiled&) = delete;
  ~Compiled() {
    if (regex) onig_free(regex);
  }
};

Expression Expression::regex(const std::string& pattern, const std::string& where) {
  static std::once_flag started;
  std::call_once(started, [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    onig_initialize(encodings, 1);
  });
  check_utf8(pattern, cat(where, ": the expression"));
  check(pattern.size() <= 10000, where, ": an expression of ", pattern.size(), " bytes; expected at most 10000");
  Expression out;
  const std::string spelled = Spelled(pattern, where)();
  auto compiled = std::make_shared<Compiled>();
  compiled->where = where;
  OnigErrorInfo info;
  const OnigUChar* begin = bytes_of(spelled);
  const int code = onig_new(&compiled->regex, begin, begin + spelled.size(), ONIG_OPTION_NONE, ONIG_ENCODING_UTF8,
                            ONIG_SYNTAX_DEFAULT, &info);
  check(code == ONIG_NORMAL, where, ": '", pattern,
        "' is no regular expression: ", code == ONIG_NORMAL ? "" : onig_reason(code, &info));
  out.compiled_ = std::move(compiled);
  out.splitter_ = known_splitter(pattern);
  return out;
}

Expression Expression::plain(const std::string& text, const std::string& where) {
  if (text.empty()) return regex("", where);
  Expression out;
  out.plain_ = text;
  return out;
}

void Expression::find(std::string_view text, std::vector<Match>& out) const {
  uint32_t done = 0;
  const auto found = [&](size_t begin, size_t end) {
    if (done != begin) out.push_back({done, static_cast<uint32_t>(begin), false});
    done = static_cast<uint32_t>(end);
    out.push_back({static_cast<uint32_t>(begin), done, true});
  };
  if (splitter_) {
    for (size_t at = 0; at < text.size();) {
      const size_t end = splitter_(text, at);
      found(at, end);
      at = end;
    }
    return;
  }
  if (!compiled_) {
    for (size_t at = text.find(plain_); at != std::string_view::npos; at = text.find(plain_, at + plain_.size()))
      found(at, at + plain_.size());
  } else {
    const std::unique_ptr<OnigRegion, void (*)(OnigRegion*)> region(onig_region_new(),
                                                                    [](OnigRegion* r) { onig_region_free(r, 1); });
    const std::unique_ptr<OnigMatchParam, void (*)(OnigMatchParam*)> limits(onig_new_match_param(),
                                                                            onig_free_match_param);
    onig_initialize_match_param(limits.get());
    onig_set_retry_limit_in_match_of_match_param(limits.get(), kMostRetries);
    onig_set_retry_limit_in_search_of_match_param(limits.get(), kMostRetries);
    const OnigUChar* begin = bytes_of(text);
    const OnigUChar* end = begin + text.size();
    std::optional<size_t> last_end;
    for (size_t from = 0; from <= text.size();) {
      const int code = onig_search_with_param(compiled_->regex, begin, end, begin + from, end, region.get(),
                                              ONIG_OPTION_NONE, limits.get());
      if (code == ONIG_MISMATCH) break;
      check(code >= 0, compiled_->where, ": the expression gives up on a text of ", text.size(), " bytes (",
            code < 0 ? onig_reason(code, nullptr) : "", "); a simpler expression or shorter texts help");
      const auto match_begin = static_cast<size_t>(region->beg[0]), match_end = static_cast<size_t>(region->end[0]);
      if (match_begin == match_end && last_end == match_end) {
        // An empty match right behind the last one would go on for ever.
        from += from < text.size() ? utf8_length(text[from]) : 1;
        continue;
      }
      found(match_begin, match_end);
      from = match_end;
      last_end = match_end;
    }
  }
  if (done != text.size()) out.push_back({done, static_cast<uint32_t>(text.size()), false});
}

}  // namespace deeplora
