#include "template/filters.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "template/operations.h"
#include "template/python_text.h"
#include "template/value_tests.h"
#include "text/unicode.h"

namespace deeplora::jinja {
namespace {

namespace pt = python_text;
using A = Arguments;
using Filter = Value (*)(const Value&, Arguments);

const Value kNone = Value::None{};

void no_arguments(const char* name, A a) { bind(name, std::move(a), {}); }

/// soft_str: a text as it is (escaped stays escaped), anything else printed.
Value soft(const Value& value) { return value.is_text() ? value : Value(to_text(value)); }

int64_t whole(const char* filter, const Value& value) {
  if (value.is_undefined()) value.fail_undefined();
  const auto out = value.integer();
  check(out.has_value(), filter, ": expected an int, found ", value.type());
  return *out;
}

/// The method of a str with these arguments.
Value by_method(const Value& text, const char* method, A a = {}) {
  return call(*builtin_attribute(soft(text), method), std::move(a));
}

// ---- attributes by path ----

/// "a.b.0" as keys: digits are numbers.
Values path_of(const Value& attribute) {
  if (attribute.is_none()) return {};
  if (!attribute.is_text()) return {attribute};
  Values out;
  for (const auto& part : pt::split(attribute.text(), ".", -1, false)) {
    const bool digits = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    out.push_back(digits ? Value(*pt::parse_int(part, 10)) : Value(part));
  }
  return out;
}

Value ignore_case(const Value& value) {
  return value.is_text() ? Value(pt::lower(value.text()), value.is_safe()) : value;
}

/// What a filter looks at in an item.
struct Look {
  Values path;
  bool fold = false;               ///< texts in lower case
  Value fallback = Value::None{};  ///< for what is undefined on the way; None: nothing
  Value operator()(Value item) const {
    for (const auto& key : path) {
      item = get_item(item, key);
      if (!fallback.is_none() && item.is_undefined()) item = fallback;
    }
    return fold ? ignore_case(item) : item;
  }
};

// ---- texts ----

Value title(const Value& value, A a) {
  no_arguments("title", std::move(a));
  const Value text = soft(value);
  std::string out, rest;
  bool first = true;
  const auto flush = [&] {
    out += pt::lower(rest);
    rest.clear();
  };
  for (size_t i = 0; i < text.text().size(); i = pt::next(text.text(), i)) {
    const char32_t code = pt::code_at(text.text(), i);
    const std::string one = text.text().substr(i, pt::next(text.text(), i) - i);
    const bool divides =
        pt::is_space(code) ||
        (code < 0x80 && std::string_view("-({[<").find(static_cast<char>(code)) != std::string_view::npos);
    if (divides) {
      flush();
      out += one;
    } else if (first) {
      out += pt::upper(one);
    } else {
      rest += one;
    }
    first = divides;
  }
  flush();
  return out;
}

Value indent(const Value& value, A a) {
  const auto given =
      bind("indent", std::move(a), {{"width", Value(4)}, {"first", Value(false)}, {"blank", Value(false)}});
  if (value.is_undefined()) value.fail_undefined();
  check(value.is_text(), "indent: expected a str, found ", value.type());
  check(!value.is_safe(), "indent of escaped text is not supported");
  std::string space;
  if (given[0].is_text()) space = given[0].text();
  else space = pt::justify("", whole("indent", given[0]), " ", -1);
  std::string out;
  const auto lines = pt::split_lines(value.text() + "\n", false);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i) out += "\n";
    if (i && (truth(given[2]) || !lines[i].empty())) out += space;
    out += lines[i];
  }
  return truth(given[1]) ? space + out : out;
}

Value truncate(const Value& value, A a) {
  const auto given =
      bind("truncate", std::move(a),
           {{"length", Value(255)}, {"killwords", Value(false)}, {"end", Value("...")}, {"leeway", kNone}});
  const auto number = [](const Value& one) {
    if (one.is_undefined()) one.fail_undefined();
    check(one.number().has_value(), "truncate: expected a number, found ", one.type());
    return *one.number();
  };
  const double most = number(given[0]), leeway = given[3].is_none() ? 5 : number(given[3]);
  check(given[2].is_text(), "truncate: end: expected a str");
  const auto mark = static_cast<double>(pt::length(given[2].text()));
  check(most >= mark, "expected length >= ", mark, ", got ", most);
  check(leeway >= 0, "expected leeway >= 0, got ", leeway);
  if (static_cast<double>(length(value)) <= most + leeway) return value;
  check(given[0].integer().has_value(), "slice indices must be integers");
  check(value.is_text() && !value.is_safe(), "truncate: expected a str, found ", value.type());
  std::string cut = value.text().substr(0, pt::byte_of(value.text(), static_cast<size_t>(most - mark)));
  if (!truth(given[1])) cut = cut.substr(0, cut.rfind(' '));
  return cut + given[2].text();
}

Value wordcount(const Value& value, A a) {
  no_arguments("wordcount", std::move(a));
  const Value text = soft(value);
  int64_t count = 0;
  bool inside = false;
  for (size_t i = 0; i < text.text().size(); i = pt::next(text.text(), i)) {
    const char32_t code = pt::code_at(text.text(), i);
    const bool word = pt::is_alphabetic(code) || pt::is_numeric(code) || code == '_';
    if (word && !inside) ++count;
    inside = word;
  }
  return count;
}

Value replaced(const Value& value, A a) {
  const auto given = bind("replace", std::move(a), {{"old"}, {"new"}, {"count", kNone}});
  const int64_t most = given[2].is_none() ? -1 : whole("replace", given[2]);
  return pt::replace(to_text(value), to_text(given[0]), to_text(given[1]), most);
}

Value joined(const Value& value, A a) {
  const auto given = bind("join", std::move(a), {{"d", Value("")}, {"attribute", kNone}});
  const Look look{path_of(given[1])};
  const std::string mark = to_text(given[0]);
  std::string out;
  const Next next = iterate(value);
  for (bool first = true; auto item = next(); first = false) {
    if (!first) out += mark;
    out += to_text(look(*item));
    Budget::step(1 + mark.size() / 32);
    check(out.size() <= Budget::kLongestText, "a text grows too long");
  }
  return out;
}

std::string url_quoted(const Value& value, bool query) {
  static const char* kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : to_text(value)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 &&
        (std::isalnum(byte) || std::string_view("_.-~").find(c) != std::string_view::npos || (c == '/' && !query)))
      out += c;
    else if (c == ' ' && query) out += '+';
    else (((out += '%') += kHex[byte >> 4]) += kHex[byte & 15]);
  }
  return out;
}

Value urlencode(const Value& value, A a) {
  no_arguments("urlencode", std::move(a));
  if (value.is_text() || !is_iterable(value)) return url_quoted(value, false);
  std::string out;
  const Next next = iterate(value.is_dict() ? call(*builtin_attribute(value, "items"), {}) : value);
  while (const auto pair = next()) {
    const Values parts = all_items(*pair);
    check(parts.size() == 2, "urlencode: expected pairs");
    out += (out.empty() ? "" : "&") + url_quoted(parts[0], true) + "=" + url_quoted(parts[1], true);
  }
  return out;
}

Value xmlattr(const Value& value, A a) {
  const auto given = bind("xmlattr", std::move(a), {{"autospace", Value(true)}});
  check(value.is_dict(), "xmlattr: expected a dict, found ", value.type());
  const auto escaped = [](const Value& one) { return one.is_safe() ? one.text() : pt::escape_html(to_text(one)); };
  std::string out;
  for (const auto& [key, one] : value.dict().entries()) {
    if (one.is_none() || one.is_undefined()) continue;
    check(key.is_text(), "xmlattr: expected names, found ", key.type());
    check(key.text().find_first_of(" \t\n\r\f\v/>=") == std::string::npos,
          "Invalid character in attribute name: ", repr(key));
    out += (out.empty() ? "" : " ") + escaped(key) + "=\"" + escaped(one) + "\"";
  }
  return truth(given[0]) && !out.empty() ? " " + out : out;
}

Value striptags(const Value& value, A a) {
  no_arguments("striptags", std::move(a));
  std::string text = to_text(value), out;
  for (size_t at; (at = text.find("<!--")) != std::string::npos;) {
    const size_t end = text.find("-->", at);
    if (end == std::string::npos) break;
    text.erase(at, end + 3 - at);
  }
  for (size_t at; (at = text.find('<')) != std::string::npos;) {
    const size_t end = text.find('>', at);
    if (end == std::string::npos) break;
    text.erase(at, end + 1 - at);
  }
  for (const auto& word : pt::split(text, std::nullopt, -1, false)) out += (out.empty() ? "" : " ") + word;
  check(out.find('&') == std::string::npos, "striptags of text with & is not supported");
  return out;
}

Value filesizeformat(const Value& value, A a) {
  const bool binary = truth(bind("filesizeformat", std::move(a), {{"binary", Value(false)}})[0]);
  const auto number = value.is_text() ? pt::parse_float(value.text()) : value.number();
  check(number.has_value(), "filesizeformat: expected a number, found ", value.type());
  const double base = binary ? 1024 : 1000;
  if (*number == 1) return "1 Byte";
  if (*number < base) return cat(static_cast<int64_t>(*number), " Bytes");
  double unit = base;
  static const char* kPrefixes = "kMGTPEZY";
  for (int i = 0;; ++i) {
    unit *= base;
    if (*number >= unit && i < 7) continue;
    char buffer[400];
    std::snprintf(buffer, sizeof buffer, "%.1f ", base * *number / unit);
    return cat(buffer, binary && i == 0 ? 'K' : kPrefixes[i], binary ? "iB" : "B");
  }
}

Value formatted(const Value& value, A a) {
  check(a.positional.empty() || a.named.empty(), "can't handle positional and keyword arguments at the same time");
  if (a.named.empty()) return percent_format(soft(value), Value::tuple(std::move(a.positional)));
  Dict dict;
  for (auto& [name, one] : a.named) dict.set(Value(name), std::move(one));
  return percent_format(soft(value), Value(std::move(dict)));
}

Value escape(const Value& value, A a) {
  no_arguments("escape", std::move(a));
  return value.is_safe() ? value : Value(pt::escape_html(to_text(value)), true);
}

// ---- numbers ----

Value to_int(const Value& value, A a) {
  const auto given = bind("int", std::move(a), {{"default", Value(0)}, {"base", Value(10)}});
  if (value.is_undefined()) value.fail_undefined();
  const auto from_real = [&](double real, bool quiet) -> Value {
    if (std::isnan(real) || (quiet && std::isinf(real))) return given[0];
    check(!std::isinf(real), "cannot convert float infinity to integer");
    check(std::abs(real) < 9.2e18, "a whole number beyond 64 bits");
    return static_cast<int64_t>(real);
  };
  if (value.integer()) return *value.integer();
  if (value.is_float()) return from_real(value.real(), false);
  if (!value.is_text()) return given[0];
  const int64_t base = whole("int", given[1]);
  if (base != 0 && (base < 2 || base > 36))
    return pt::parse_float(value.text()) ? from_real(*pt::parse_float(value.text()), true) : given[0];
  if (const auto number = pt::parse_int(value.text(), base)) return *number;
  const auto real = pt::parse_float(value.text());
  return real ? from_real(*real, true) : given[0];
}

Value to_float(const Value& value, A a) {
  const auto given = bind("float", std::move(a), {{"default", Value(0.0)}});
  if (value.is_undefined()) value.fail_undefined();
  if (value.number()) return *value.number();
  const auto real = value.is_text() ? pt::parse_float(value.text()) : std::nullopt;
  return real ? Value(*real) : given[0];
}

Value absolute(const Value& value, A a) {
  no_arguments("abs", std::move(a));
  if (value.is_float()) return std::abs(value.real());
  check(value.integer().has_value(), "bad operand type for abs(): '", value.type(), "'");
  return *value.integer() < 0 ? negative(value) : *value.integer();
}

Value round_to(const Value& value, A a) {
  const auto given = bind("round", std::move(a), {{"precision", Value(0)}, {"method", Value("common")}});
  check(given[1].is_text() && (given[1].text() == "common" || given[1].text() == "ceil" || given[1].text() == "floor"),
        "method must be common, ceil or floor");
  if (value.is_undefined()) value.fail_undefined();
  check(value.number().has_value(), "round: expected a number, found ", value.type());
  if (given[1].text() == "common") {
    if (given[0].is_none()) {
      check(value.integer().has_value(), "round: a precision of None is not supported for floats");
      return *value.integer();
    }
    const int64_t digits = whole("round", given[0]);
    if (value.is_float()) return rounded(value.real(), digits);
    check(digits >= 0, "rounding to places before the point is not supported");
    return *value.integer();
  }
  const Value scale = arithmetic(Expr::Kind::power, Value(10), given[0]),
              scaled = arithmetic(Expr::Kind::multiply, value, scale);
  if (scaled.integer()) return arithmetic(Expr::Kind::divide, scaled, scale);
  const double real = given[1].text() == "ceil" ? std::ceil(scaled.real()) : std::floor(scaled.real());
  check(std::abs(real) < 9.2e18, "a whole number beyond 64 bits");
  return arithmetic(Expr::Kind::divide, Value(static_cast<int64_t>(real)), scale);
}

// ---- sequences ----

Value first(const Value& value, A a) {
  no_arguments("first", std::move(a));
  auto item = iterate(value)();
  return item ? *item : Value::undefined("No first item, sequence was empty.");
}

/// reversed(): sequences, dicts and views only.
std::optional<Values> reversed(const Value& value) {
  if (!has_length(value)) return std::nullopt;
  if (value.is_object() && !value.as<Range>() && !value.as<DictView>()) return std::nullopt;
  Values items = all_items(value);
  std::reverse(items.begin(), items.end());
  return items;
}

Value last(const Value& value, A a) {
  no_arguments("last", std::move(a));
  if (value.is_undefined()) return Value::undefined("No last item, sequence was empty.");
  const auto items = reversed(value);
  check(items.has_value(), "'", value.type(), "' object is not reversible");
  return items->empty() ? Value::undefined("No last item, sequence was empty.") : items->front();
}

/// An iterator over items that are there already.
Value iterator_over(Values items) {
  int below = 0;
  for (const auto& item : items) below = std::max(below, item.depth());
  return make_iterator(
      [items = std::move(items), at = size_t{0}]() mutable -> std::optional<Value> {
        if (at >= items.size()) return std::nullopt;
        return items[at++];
      },
      below);
}

Value reverse(const Value& value, A a) {
  no_arguments("reverse", std::move(a));
  if (value.is_text()) return get_slice(value, {}, {}, Value(-1));
  if (const auto items = reversed(value)) return iterator_over(*items);
  Values items = all_items(value);
  std::reverse(items.begin(), items.end());
  return Value::list(std::move(items));
}

Value sorted(const Value& value, A a) {
  const auto given =
      bind("sort", std::move(a), {{"reverse", Value(false)}, {"case_sensitive", Value(false)}, {"attribute", kNone}});
  std::vector<Look> looks;
  if (given[2].is_text())
    for (const auto& part : pt::split(given[2].text(), ",", -1, false))
      looks.push_back({path_of(Value(part)), !truth(given[1])});
  else looks.push_back({path_of(given[2]), !truth(given[1])});
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& item : all_items(value)) {
    Values key;
    for (const auto& look : looks) key.push_back(look(item));
    keyed.emplace_back(Value::list(std::move(key)), item);
  }
  const bool back = truth(given[0]);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& x, const auto& y) {
    return back ? less(y.first, x.first) : less(x.first, y.first);
  });
  Values out;
  for (auto& one : keyed) out.push_back(std::move(one.second));
  return Value::list(std::move(out));
}

Value dictsort(const Value& value, A a) {
  const auto given = bind("dictsort", std::move(a),
                          {{"case_sensitive", Value(false)}, {"by", Value("key")}, {"reverse", Value(false)}});
  check(given[1].is_text() && (given[1].text() == "key" || given[1].text() == "value"),
        "You can only sort by either \"key\" or \"value\"");
  if (value.is_undefined()) value.fail_undefined();
  check(value.is_dict(), "dictsort: expected a dict, found ", value.type());
  const size_t by = given[1].text() == "key" ? 0 : 1;
  const bool fold = !truth(given[0]), back = truth(given[2]);
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, one] : value.dict().entries()) {
    const Value& look = by == 0 ? key : one;
    keyed.emplace_back(fold ? ignore_case(look) : look, Value::tuple({key, one}));
  }
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& x, const auto& y) {
    return back ? less(y.first, x.first) : less(x.first, y.first);
  });
  Values out;
  for (auto& one : keyed) out.push_back(std::move(one.second));
  return Value::list(std::move(out));
}

Value extreme(const char* name, const Value& value, A a, bool largest) {
  const auto given = bind(name, std::move(a), {{"case_sensitive", Value(false)}, {"attribute", kNone}});
  const Look look{path_of(given[1]), !truth(given[0])};
  const Next next = iterate(value);
  auto best = next();
  if (!best) return Value::undefined("No aggregated item, sequence was empty.");
  Value key = look(*best);
  while (auto item = next()) {
    Value other = look(*item);
    if (largest ? !less(key, other) : !less(other, key)) continue;
    best = std::move(item);
    key = std::move(other);
  }
  return *best;
}

Value unique(const Value& value, A a) {
  const auto given = bind("unique", std::move(a), {{"case_sensitive", Value(false)}, {"attribute", kNone}});
  const Look look{path_of(given[1]), !truth(given[0])};
  auto seen = std::make_shared<Dict>();
  return make_iterator(
      [value, look, seen, next = Next()]() mutable -> std::optional<Value> {
        if (!next) next = iterate(value);
        while (auto item = next()) {
          const Value key = look(*item);
          if (seen->find(key)) continue;
          seen->set(key, kNone);
          return item;
        }
        return std::nullopt;
      },
      value.depth());
}

Value sum(const Value& value, A a) {
  const auto given = bind("sum", std::move(a), {{"attribute", kNone}, {"start", Value(0)}});
  const Look look{path_of(given[0])};
  check(!given[1].is_text(), "sum() can't sum strings [use ''.join(seq) instead]");
  Value out = given[1];
  const Next next = iterate(value);
  while (const auto item = next()) out = arithmetic(Expr::Kind::add, out, look(*item));
  return out;
}

Value batch(const Value& value, A a) {
  const auto given = bind("batch", std::move(a), {{"linecount"}, {"fill_with", kNone}});
  return make_iterator(
      [value, given, next = Next(), held = Values(), done = false]() mutable -> std::optional<Value> {
        if (done) return std::nullopt;
        if (!next) next = iterate(value);
        while (auto item = next()) {
          std::optional<Value> full;
          if (equal(Value(held.size()), given[0])) full = Value::list(std::exchange(held, {}));
          held.push_back(std::move(*item));
          if (full) return full;
        }
        done = true;
        if (held.empty()) return std::nullopt;
        if (!given[1].is_none()) {
          const int64_t most = whole("batch", given[0]);
          Budget::step(static_cast<size_t>(std::max<int64_t>(0, most)));
          while (static_cast<int64_t>(held.size()) < most) held.push_back(given[1]);
        }
        return Value::list(std::move(held));
      },
      value.depth() + 1);
}

Value slice(const Value& value, A a) {
  const auto given = bind("slice", std::move(a), {{"slices"}, {"fill_with", kNone}});
  return make_iterator(
      [value, given, all = Values(), number = int64_t{0}, offset = int64_t{0},
       started = false]() mutable -> std::optional<Value> {
        if (!started) all = all_items(value);
        started = true;
        const int64_t slices = whole("slice", given[0]), count = static_cast<int64_t>(all.size());
        check(slices != 0, "integer division or modulo by zero");
        if (number >= slices) return std::nullopt;
        const int64_t each = count / slices, extra = count % slices;
        const int64_t begin = offset + number * each;
        if (number < extra) ++offset;
        const int64_t end = offset + (number + 1) * each;
        Values out(all.begin() + begin, all.begin() + end);
        if (!given[1].is_none() && number >= extra) out.push_back(given[1]);
        ++number;
        return Value::list(std::move(out));
      },
      value.depth() + 1);
}

/// One group of groupby: a tuple whose parts have names.
struct Group : Object {
  Group(Value key, Value items) : pair(Value::tuple({std::move(key), std::move(items)})) { depth = pair.depth(); }
  std::string type() const override { return "_GroupTuple"; }
  std::optional<Value> attribute(const std::string& name) override {
    if (name == "grouper") return pair.items()[0];
    if (name == "list") return pair.items()[1];
    return builtin_attribute(pair, name);
  }
  std::optional<Next> iterate() override { return jinja::iterate(pair); }
  std::optional<int64_t> length() override { return 2; }
  bool subscriptable() const override { return true; }
  std::optional<Value> item(const Value& key) override {
    const Value found = get_item(pair, key);
    return found.is_undefined() ? std::nullopt : std::optional(found);
  }
  std::string repr() override { return jinja::repr(pair); }
  bool hashable() const override { return false; }
  std::optional<Value> as_tuple() override { return pair; }
  Value pair;
};

Value groupby(const Value& value, A a) {
  const auto given =
      bind("groupby", std::move(a), {{"attribute"}, {"default", kNone}, {"case_sensitive", Value(false)}});
  const Look look{path_of(given[0]), !truth(given[2]), given[1]}, plain{path_of(given[0]), false, given[1]};
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& item : all_items(value)) keyed.emplace_back(look(item), item);
  std::stable_sort(keyed.begin(), keyed.end(), [](const auto& x, const auto& y) { return less(x.first, y.first); });
  Values out;
  for (size_t i = 0; i < keyed.size();) {
    Values items;
    size_t end = i;
    for (; end < keyed.size() && equal(keyed[end].first, keyed[i].first); ++end) items.push_back(keyed[end].second);
    const Value key = truth(given[2]) ? keyed[i].first : plain(items[0]);
    out.emplace_back(std::static_pointer_cast<Object>(std::make_shared<Group>(key, Value::list(std::move(items)))));
    i = end;
  }
  return Value::list(std::move(out));
}

Value items(const Value& value, A a) {
  no_arguments("items", std::move(a));
  return make_iterator(
      [value, next = Next()]() mutable -> std::optional<Value> {
        if (value.is_undefined()) return std::nullopt;
        check(value.is_dict(), "Can only get item pairs from a mapping.");
        if (!next) next = iterate(call(*builtin_attribute(value, "items"), {}));
        return next();
      },
      value.depth());
}

Value attribute(const Value& value, A a) {
  const auto given = bind("attr", std::move(a), {{"name"}});
  check(given[0].is_text(), "attr: expected a name, found ", given[0].type());
  if (value.is_undefined()) value.fail_undefined();
  const std::string& name = given[0].text();
  const auto found = value.is_object() ? value.object()->attribute(name) : builtin_attribute(value, name);
  if (found || name.starts_with("__")) return get_attribute(value, name);
  return Value::undefined(cat("'", value.type(), " object' has no attribute '", name, "'"));
}

// ---- filters that take filters and tests ----

int deepest(const Value& value, const A& a) {
  int out = value.depth();
  for (const auto& one : a.positional) out = std::max(out, one.depth());
  for (const auto& one : a.named) out = std::max(out, one.second.depth());
  return out;
}

std::string name_argument(const Value& value, const char* what) {
  if (value.is_undefined()) value.fail_undefined();
  check(value.is_text(), "no ", what, " named ", repr(value));
  return value.text();
}

Value mapped(const Value& value, A a) {
  const int below = deepest(value, a);
  return make_iterator(
      [value, a = std::move(a), next = Next(), look = std::optional<Look>(),
       started = false]() mutable -> std::optional<Value> {
        if (!truth(value)) return std::nullopt;
        if (!started && a.positional.empty()) {
          const auto given = bind("map", a, {{"attribute"}, {"default", kNone}});
          look = Look{path_of(given[0]), false, given[1]};
        }
        if (!started) next = iterate(value);
        started = true;
        const auto item = next();
        if (!item) return std::nullopt;
        if (look) return (*look)(*item);
        A rest{Values(a.positional.begin() + 1, a.positional.end()), a.named};
        return apply_filter(name_argument(a.positional[0], "filter"), *item, std::move(rest));
      },
      below);
}

/// select, reject and their kin of an attribute.
Value chosen(const Value& value, A a, bool wanted, bool by_attribute) {
  const int below = deepest(value, a);
  return make_iterator(
      [value, a = std::move(a), wanted, by_attribute, next = Next()]() mutable -> std::optional<Value> {
        if (!truth(value)) return std::nullopt;
        check(!by_attribute || !a.positional.empty(), "Missing parameter for attribute name");
        const size_t off = by_attribute ? 1 : 0;
        const Look look{by_attribute ? path_of(a.positional[0]) : Values()};
        if (!next) next = iterate(value);
        while (auto item = next()) {
          const Value seen = look(*item);
          bool fits = false;
          if (a.positional.size() <= off) {
            fits = truth(seen);
          } else {
            A rest{Values(a.positional.begin() + static_cast<std::ptrdiff_t>(off) + 1, a.positional.end()), a.named};
            fits = apply_test(name_argument(a.positional[off], "test"), seen, std::move(rest));
          }
          if (fits == wanted) return item;
        }
        return std::nullopt;
      },
      below);
}

Value json(const Value& value, A a) {
  const auto given =
      bind("tojson", std::move(a),
           {{"ensure_ascii", Value(false)}, {"indent", kNone}, {"separators", kNone}, {"sort_keys", Value(false)}});
  JsonOptions options{.ascii = truth(given[0]), .sorted = truth(given[3])};
  if (given[1].is_text()) options.indent = given[1].text();
  else if (!given[1].is_none()) options.indent = pt::justify("", whole("tojson", given[1]), " ", -1);
  if (options.indent) options.item_separator = ",";
  if (!given[2].is_none()) {
    const Values pair = all_items(given[2]);
    check(pair.size() == 2 && pair[0].is_text() && pair[1].is_text(), "tojson: separators: expected two texts");
    options.item_separator = pair[0].text();
    options.key_separator = pair[1].text();
  }
  return to_json(value, options);
}

Value defaulted(const Value& value, A a) {
  const auto given = bind("default", std::move(a), {{"default_value", Value("")}, {"boolean", Value(false)}});
  return value.is_undefined() || (truth(given[1]) && !truth(value)) ? given[0] : value;
}

const std::map<std::string, Filter>& filters() {
  using V = const Value&;
  static const Filter count = [](V v, A a) -> Value { return no_arguments("length", std::move(a)), length(v); };
  static const std::map<std::string, Filter> known{
      {"abs", absolute},
      {"attr", attribute},
      {"batch", batch},
      {"capitalize", [](V v, A a) { return no_arguments("capitalize", std::move(a)), by_method(v, "capitalize"); }},
      {"center",
       [](V v, A a) { return by_method(v, "center", {bind("center", std::move(a), {{"width", Value(80)}}), {}}); }},
      {"count", count},
      {"d", defaulted},
      {"default", defaulted},
      {"dictsort", dictsort},
      {"e", escape},
      {"escape", escape},
      {"filesizeformat", filesizeformat},
      {"first", first},
      {"float", to_float},
      {"forceescape",
       [](V v, A a) { return no_arguments("forceescape", std::move(a)), Value(pt::escape_html(to_text(v)), true); }},
      {"format", formatted},
      {"groupby", groupby},
      {"indent", indent},
      {"int", to_int},
      {"items", items},
      {"join", joined},
      {"last", last},
      {"length", count},
      {"list", [](V v, A a) { return no_arguments("list", std::move(a)), Value::list(all_items(v)); }},
      {"lower", [](V v, A a) { return no_arguments("lower", std::move(a)), by_method(v, "lower"); }},
      {"map", mapped},
      {"max", [](V v, A a) { return extreme("max", v, std::move(a), true); }},
      {"min", [](V v, A a) { return extreme("min", v, std::move(a), false); }},
      {"reject", [](V v, A a) { return chosen(v, std::move(a), false, false); }},
      {"rejectattr", [](V v, A a) { return chosen(v, std::move(a), false, true); }},
      {"replace", replaced},
      {"reverse", reverse},
      {"round", round_to},
      {"safe", [](V v, A a) { return no_arguments("safe", std::move(a)), v.is_safe() ? v : Value(to_text(v), true); }},
      {"select", [](V v, A a) { return chosen(v, std::move(a), true, false); }},
      {"selectattr", [](V v, A a) { return chosen(v, std::move(a), true, true); }},
      {"slice", slice},
      {"sort", sorted},
      {"string", [](V v, A a) { return no_arguments("string", std::move(a)), soft(v); }},
      {"striptags", striptags},
      {"sum", sum},
      {"title", title},
      {"tojson", json},
      {"trim", [](V v, A a) { return by_method(v, "strip", {bind("trim", std::move(a), {{"chars", kNone}}), {}}); }},
      {"truncate", truncate},
      {"unique", unique},
      {"upper", [](V v, A a) { return no_arguments("upper", std::move(a)), by_method(v, "upper"); }},
      {"urlencode", urlencode},
      {"wordcount", wordcount},
      {"xmlattr", xmlattr}};
  return known;
}

/// Filters that Jinja has and this interpreter does not, each with the reason.
const std::map<std::string, const char*>& refused() {
  static const std::map<std::string, const char*> names{{"random", "a template gives the same text at every run"},
                                                        {"pprint", "print tojson(indent=2) instead"},
                                                        {"urlize", "it writes HTML links"},
                                                        {"wordwrap", "it breaks lines"}};
  return names;
}

std::string unknown(const std::string& name) {
  const auto why = refused().find(name);
  if (why != refused().end()) return cat("the filter '", name, "' is not supported: ", why->second);
  std::vector<std::string> known;
  for (const auto& entry : filters()) known.push_back(entry.first);
  return cat("no filter named '", name, "'", did_you_mean(name, known));
}

}  // namespace

bool is_filter(const std::string& name) { return filters().contains(name) || refused().contains(name); }

void check_filter(const std::string& name, Place place) {
  if (!filters().contains(name)) fail(at(place), unknown(name));
}

Value apply_filter(const std::string& name, const Value& value, Arguments arguments) {
  const auto found = filters().find(name);
  if (found == filters().end()) fail(unknown(name));
  Budget::step();
  return found->second(value, std::move(arguments));
}

}  // namespace deeplora::jinja
