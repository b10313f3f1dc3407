#include "core/yaml_value.h"

#include <yaml-cpp/emitter.h>
#include <yaml-cpp/emittermanip.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

namespace deeplora {
namespace {

constexpr size_t kDeepest = 64, kMostValues = 100'000;

bool is_null_word(std::string_view text) {
  return text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL";
}

size_t count_values(const YamlValue& value) {
  size_t out = 1;
  for (const auto& item : value.items) out += count_values(item);
  return out;
}

/// The parts of a dotted key.
std::vector<std::string> parts_of(const std::string& key) {
  std::vector<std::string> out;
  size_t start = 0;
  for (size_t dot; (dot = key.find('.', start)) != std::string::npos; start = dot + 1)
    out.push_back(key.substr(start, dot - start));
  out.push_back(key.substr(start));
  return out;
}

/// Builds the tree from the parser's events.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view text, const std::string& origin) : text_(text), origin_(origin) {}

  YamlValue take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) refuse(mark, "a second YAML document begins here; expected one (is a line '---' too much?)");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    YamlValue value;
    value.text = null_word_at(mark);
    value.line = line_of(mark);
    add(std::move(value), mark, anchor);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    if (tag != "tag:yaml.org,2002:str") check_tag(mark, tag);
    YamlValue value{.kind = YamlValue::Kind::scalar,
                    .text = text,
                    .quoted = tag != "?" && !tag.empty(),
                    .line = line_of(mark),
                    .keys = {},
                    .items = {}};
    add(std::move(value), mark, anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) refuse(mark, "an anchor holds itself");
    YamlValue copy = found->second;
    values_ += count_values(copy);
    set_line(copy, line_of(mark));
    add(std::move(copy), mark, YAML::NullAnchor);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    if (tag != "tag:yaml.org,2002:seq") check_tag(mark, tag);
    open(YamlValue::list(), mark, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    if (tag != "tag:yaml.org,2002:map") check_tag(mark, tag);
    open(YamlValue::map(), mark, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    YamlValue value;
    YAML::Mark mark;
    YAML::anchor_t anchor;
    std::optional<YamlValue> key;     // of a map: waits for its value
    std::set<std::string> spelled{};  // of a map: the keys so far as they are written
    bool dotted = false;              // some of them name paths
  };

  [[noreturn]] void refuse(const YAML::Mark& mark, const std::string& what) const {
    fail(origin_, ":", line_of(mark), ": ", what);
  }
  static int line_of(const YAML::Mark& mark) { return std::max(mark.line, 0) + 1; }
  static void set_line(YamlValue& value, int line) {
    value.line = line;
    for (auto& item : value.items) set_line(item, line);
  }

  void check_tag(const YAML::Mark& mark, const std::string& tag) const {
    if (!tag.empty() && tag != "?" && tag != "!")
      refuse(mark, cat("the tag <", tag, "> is not read; write the value without it"));
  }

  /// The word that a null is written with, behind its anchor if it has one.
  std::string null_word_at(const YAML::Mark& mark) const {
    if (mark.pos < 0 || static_cast<size_t>(mark.pos) >= text_.size()) return "";
    std::string_view rest = text_.substr(static_cast<size_t>(mark.pos));
    if (rest.starts_with('&')) rest.remove_prefix(std::min(rest.find_first_of(" \t\r\n"), rest.size()));
    rest.remove_prefix(std::min(rest.find_first_not_of(" \t\r\n"), rest.size()));
    for (const char* word : {"null", "Null", "NULL", "~"})
      if (rest.starts_with(word)) return word;
    return "";
  }

  void open(YamlValue value, const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (open_.size() >= kDeepest)
      refuse(mark, cat("values nest deeper than ", kDeepest, " levels (or an anchor holds itself)"));
    if (!open_.empty() && open_.back().value.is_map() && !open_.back().key)
      refuse(mark, "a key is no text; expected 'key: value' lines");
    value.line = line_of(mark);
    open_.push_back({std::move(value), mark, anchor, std::nullopt});
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    add(std::move(done.value), done.mark, done.anchor);
  }

  void add(YamlValue value, const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (++values_ > kMostValues)
      refuse(mark, cat("more than ", kMostValues, " values (aliases counted as often as they are used)"));
    if (anchor != YAML::NullAnchor) anchors_[anchor] = value;
    if (open_.empty()) {
      root_ = std::move(value);
      return;
    }
    Open& in = open_.back();
    if (in.value.is_list()) {
      in.value.items.push_back(std::move(value));
    } else if (!in.key) {
      if (!value.is_scalar()) refuse(mark, "a key is no text; expected 'key: value' lines");
      check_key(value, in, mark);
      in.key = std::move(value);
    } else {
      const YamlValue key = *std::exchange(in.key, std::nullopt);
      put(in, key, std::move(value));
    }
  }

  void check_key(const YamlValue& key, Open& in, const YAML::Mark& mark) const {
    if (key.text == "<<" && !key.quoted) refuse(mark, "a merge key (<<) is not read; write the keys themselves");
    if (!in.spelled.insert(key.text).second) refuse(mark, cat("the key '", key.text, "' is given twice"));
  }

  /// A key with dots is laid out as the maps that it names.
  void put(Open& in, const YamlValue& key, YamlValue value) const {
    if (key.quoted || key.text.find('.') == std::string::npos) {
      if (in.dotted) return lay_over(in.value, key.text, std::move(value), key);
      in.value.keys.push_back(key.text);
      in.value.items.push_back(std::move(value));
      return;
    }
    in.dotted = true;
    const auto parts = parts_of(key.text);
    for (const auto& part : parts)
      check(!part.empty(), origin_, ":", key.line, ": the key '", key.text,
            "' has an empty part between its dots; in quotes it is one key");
    for (size_t i = parts.size() - 1; i > 0; --i) {
      YamlValue around = YamlValue::map();
      around.line = key.line;
      around.at_key(parts[i]) = std::move(value);
      value = std::move(around);
    }
    lay_over(in.value, parts.front(), std::move(value), key);
  }

  /// Adds a key, or the keys below it where another spelling has begun the same map.
  void lay_over(YamlValue& map, const std::string& key, YamlValue value, const YamlValue& spelled) const {
    const auto found = std::find(map.keys.begin(), map.keys.end(), key);
    if (found == map.keys.end()) {
      map.keys.push_back(key);
      map.items.push_back(std::move(value));
      return;
    }
    YamlValue& there = map.items[static_cast<size_t>(found - map.keys.begin())];
    if (there.is_null() && value.is_map()) return void(there = std::move(value));
    if (there.is_map() && value.is_null()) return;
    check(there.is_map() && value.is_map(), origin_, ":", spelled.line, ": the key '", spelled.text,
          "' is given twice (line ", there.line, " sets '", key, "' too)");
    for (size_t i = 0; i < value.keys.size(); ++i) lay_over(there, value.keys[i], std::move(value.items[i]), spelled);
  }

  std::string_view text_;
  const std::string& origin_;
  YamlValue root_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, YamlValue> anchors_;
  size_t values_ = 0;
  int documents_ = 0;
};

/// Throws YAML::Exception for text that is no YAML, Error for values that no one means.
YamlValue build_tree(const std::string& text, const std::string& origin) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  std::string_view body = text;
  if (body.starts_with(kByteOrderMark)) body.remove_prefix(kByteOrderMark.size());
  std::istringstream in{std::string(body)};
  YAML::Parser parser(in);
  TreeBuilder builder(body, origin);
  while (parser.HandleNextDocument(builder)) {
  }
  return builder.take();
}

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n"), end = text.find_last_not_of(" \t\r\n");
  return begin == std::string::npos ? "" : text.substr(begin, end - begin + 1);
}

/// What YAML 1.1 or 1.2 would take for a number, a date or a sign of its own: a wider net than ours, so that other
/// readers see a text as well.
bool looks_typed(const std::string& text) {
  bool flag = false;
  const YamlValue plain{
      .kind = YamlValue::Kind::scalar, .text = text, .quoted = false, .line = 0, .keys = {}, .items = {}};
  if (is_null_word(text) || read_yaml(plain, flag) || text == "=" || text == "<<") return true;
  constexpr std::string_view kBegins = "0123456789+-.", kGoesOn = "0123456789abcdefABCDEFxXoO_.:+-TtZz \tinfINFaNA";
  return kBegins.find(text[0]) != std::string_view::npos && text.find_first_not_of(kGoesOn) == std::string::npos;
}

/// Unicode's own ends of lines and the byte order mark: readers of YAML 1.1 break or fold a text there.
bool holds_odd_breaks(const std::string& text) {
  return std::ranges::any_of(std::initializer_list<const char*>{"\u0085", "\u2028", "\u2029", "\uFEFF"},
                             [&](const char* sign) { return text.find(sign) != std::string::npos; });
}

void write_text(YAML::Emitter& out, const std::string& text) {
  if (holds_odd_breaks(text)) out << YAML::EscapeNonAscii << YAML::DoubleQuoted;
  else if (looks_typed(text)) out << YAML::DoubleQuoted;
  out << text;
}

bool is_flat(const YamlValue& list) {
  return std::none_of(list.items.begin(), list.items.end(),
                      [](const YamlValue& item) { return item.is_list() || item.is_map(); });
}

void write(YAML::Emitter& out, const YamlValue& value) {
  switch (value.kind) {
    case YamlValue::Kind::null: out << YAML::Null; return;
    case YamlValue::Kind::scalar:
      if (value.quoted) write_text(out, value.text);
      else out << value.text;
      return;
    case YamlValue::Kind::list:
      if (is_flat(value)) out << YAML::Flow;
      out << YAML::BeginSeq;
      for (const auto& item : value.items) write(out, item);
      out << YAML::EndSeq;
      return;
    case YamlValue::Kind::map:
      out << YAML::BeginMap;
      for (size_t i = 0; i < value.items.size(); ++i) {
        out << YAML::Key;
        if (value.keys[i].find('.') != std::string::npos) out << YAML::DoubleQuoted;
        write_text(out, value.keys[i]);
        out << YAML::Value;
        write(out, value.items[i]);
      }
      out << YAML::EndMap;
      return;
  }
}

/// An unsigned decimal number as YAML writes it, without hexadecimal: digits, point, exponent.
bool is_decimal(std::string_view text, bool& whole) {
  size_t at = 0;
  const auto digits = [&] {
    const size_t begin = at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
    return at - begin;
  };
  const size_t before = digits();
  size_t behind = 0;
  whole = at == text.size();
  if (at < text.size() && text[at] == '.') {
    ++at;
    behind = digits();
  }
  if (before + behind == 0) return false;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
    if (digits() == 0) return false;
  }
  return at == text.size();
}

bool has_leading_zero(std::string_view digits) {
  return digits.size() > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9';
}

struct Number {
  bool negative = false, whole = false, hexadecimal = false;
  std::string_view digits;  ///< without the sign and 0x
};

/// How a scalar is written, when it is a number.
std::optional<Number> number_of(std::string_view text) {
  Number out;
  if (text.starts_with('-') || text.starts_with('+')) {
    out.negative = text[0] == '-';
    text.remove_prefix(1);
  }
  out.digits = text;
  if (text.starts_with("0x")) {
    out.hexadecimal = out.whole = true;
    out.digits.remove_prefix(2);
    const bool fine =
        !out.digits.empty() && out.digits.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
    return fine ? std::optional(out) : std::nullopt;
  }
  if (has_leading_zero(text) || !is_decimal(text, out.whole)) return std::nullopt;
  return out;
}

bool to_whole(const Number& number, int64_t& out) {
  std::string text = (number.negative ? "-" : "") + std::string(number.digits);
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), out, number.hexadecimal ? 16 : 10);
  return failed == std::errc() && end == text.data() + text.size();
}

/// "1." and ".5" are no numbers to from_chars everywhere.
bool to_number(const Number& number, double& out) {
  if (number.hexadecimal) {
    int64_t whole = 0;
    if (!to_whole(number, whole)) return false;
    out = static_cast<double>(whole);
    return true;
  }
  std::string text = "0" + std::string(number.digits);
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (failed != std::errc() || end != text.data() + text.size()) return false;
  const std::string_view mantissa = number.digits.substr(0, number.digits.find_first_of("eE"));
  const bool zero = mantissa.find_first_not_of("0.") == std::string_view::npos;
  if (number.negative) out = -out;
  return std::isfinite(out) && (out != 0 || zero);
}

}  // namespace

YamlValue YamlValue::map() {
  YamlValue out;
  out.kind = Kind::map;
  return out;
}

YamlValue YamlValue::list() {
  YamlValue out;
  out.kind = Kind::list;
  return out;
}

YamlValue YamlValue::scalar(std::string text) {
  YamlValue out;
  out.kind = Kind::scalar;
  out.text = std::move(text);
  out.quoted = true;
  return out;
}

const YamlValue* YamlValue::find(std::string_view path) const {
  if (path.empty()) return this;
  if (is_list()) {
    const size_t dot = std::min(path.find('.'), path.size());
    size_t index = 0;
    const std::string_view number = path.substr(0, dot);
    const auto [end, failed] = std::from_chars(number.data(), number.data() + number.size(), index);
    if (failed != std::errc() || end != number.data() + number.size() || has_leading_zero(number) ||
        index >= items.size())
      return nullptr;
    return dot == path.size() ? &items[index] : items[index].find(path.substr(dot + 1));
  }
  if (!is_map()) return nullptr;
  for (size_t dot = path.find('.');; dot = path.find('.', dot + 1)) {
    const std::string_view key = path.substr(0, dot);
    const auto found = std::find(keys.begin(), keys.end(), key);
    if (found != keys.end()) {
      const YamlValue& item = items[static_cast<size_t>(found - keys.begin())];
      const YamlValue* below = dot == std::string_view::npos ? &item : item.find(path.substr(dot + 1));
      if (below) return below;
    }
    if (dot == std::string_view::npos) return nullptr;
  }
}

YamlValue& YamlValue::at_key(const std::string& key) {
  const auto found = std::find(keys.begin(), keys.end(), key);
  if (found != keys.end()) return items[static_cast<size_t>(found - keys.begin())];
  keys.push_back(key);
  return items.emplace_back();
}

void YamlValue::remove_key(const std::string& key) {
  const auto found = std::find(keys.begin(), keys.end(), key);
  if (found == keys.end()) return;
  items.erase(items.begin() + (found - keys.begin()));
  keys.erase(found);
}

YamlValue parse_yaml(const std::string& text, const std::string& origin) {
  try {
    return build_tree(text, origin);
  } catch (const YAML::Exception& e) {
    fail(origin, ":", e.mark.line + 1, ": not valid YAML: ", e.msg);
  }
}

YamlValue parse_yaml_setting(const std::string& text, const std::string& origin) {
  const std::string plain = trimmed(text);
  YamlValue value;
  try {
    value = build_tree(text, origin);
  } catch (const YAML::Exception& e) {
    fail(origin, "=", text, ": the value is not valid YAML: ", e.msg,
         "; quote a text with signs of YAML's in it: '\"...\"'");
  }
  // Of a plain value YAML drops what stands behind a #, and all of "#1": on a command line nobody writes comments.
  const bool is_plain = value.is_null() || (value.is_scalar() && !value.quoted);
  const bool marked = !plain.empty() && std::string_view("&!*").find(plain[0]) != std::string_view::npos;
  if (is_plain && !marked && !is_null_word(plain) && plain.find('\n') == std::string::npos) {
    value = YamlValue::scalar(plain);
    value.quoted = false;
  }
  return value;
}

std::string yaml_lines(const YamlValue& value) {
  YAML::Emitter out;
  write(out, value);
  return std::string(out.c_str()) + "\n";
}

std::string yaml_line(const YamlValue& value) {
  YAML::Emitter out;
  out.SetMapFormat(YAML::Flow);
  out.SetSeqFormat(YAML::Flow);
  write(out, value);
  return out.c_str();
}

bool read_yaml(const YamlValue& value, bool& out) {
  if (!value.is_scalar()) return false;
  for (const auto& [word, meaning] : std::initializer_list<std::pair<std::string_view, bool>>{{"true", true},
                                                                                              {"false", false},
                                                                                              {"yes", true},
                                                                                              {"no", false},
                                                                                              {"on", true},
                                                                                              {"off", false},
                                                                                              {"y", true},
                                                                                              {"n", false}}) {
    std::string upper(word), capital(word);
    for (char& c : upper) c = static_cast<char>(c - 'a' + 'A');
    capital[0] = upper[0];
    if (value.text != word && value.text != upper && value.text != capital) continue;
    out = meaning;
    return true;
  }
  return false;
}

bool read_yaml(const YamlValue& value, int64_t& out) {
  if (!value.is_scalar()) return false;
  const auto number = number_of(value.text);
  if (!number) return false;
  if (number->whole) return to_whole(*number, out);
  constexpr double kLargestExact =
      9007199254740992.0;  // 2^53: beyond it a number is not the whole number that was written
  double real = 0;
  if (!to_number(*number, real) || std::abs(real) > kLargestExact || real != std::trunc(real)) return false;
  out = static_cast<int64_t>(real);
  return true;
}

bool read_yaml(const YamlValue& value, double& out) {
  if (!value.is_scalar()) return false;
  std::string_view word = value.text;
  const bool negative = word.starts_with('-');
  if (negative || word.starts_with('+')) word.remove_prefix(1);
  if (word == ".inf" || word == ".Inf" || word == ".INF") {
    out = negative ? -INFINITY : INFINITY;
    return true;
  }
  if (value.text == ".nan" || value.text == ".NaN" || value.text == ".NAN") {
    out = NAN;
    return true;
  }
  const auto number = number_of(value.text);
  return number && to_number(*number, out);
}

std::string number_hint(const YamlValue& value) {
  if (!value.is_scalar()) return "";
  std::string_view digits = value.text;
  if (digits.starts_with('-') || digits.starts_with('+')) digits.remove_prefix(1);
  bool whole = false;
  if (!is_decimal(digits, whole)) return "";
  if (has_leading_zero(digits))
    return " (a number does not begin with 0: YAML's versions read that as octal or as decimal)";
  double number = 0;
  return read_yaml(value, number) ? "" : " (no double holds it: it would become 0 or infinity)";
}

std::string number_text(double value) {
  if (std::isnan(value)) return ".nan";
  if (std::isinf(value)) return value < 0 ? "-.inf" : ".inf";
  std::ostringstream out;
  for (int digits = 6; digits < 18; ++digits) {
    out.str("");
    out.precision(digits);
    out << value;
    double again = 0;
    if (read_yaml(YamlValue::scalar(out.str()), again) && again == value) break;
  }
  return out.str();
}

}  // namespace deeplora
