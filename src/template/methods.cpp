// Attributes and methods of str, list, tuple, dict and numbers.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "template/operations.h"
#include "template/python_text.h"

namespace deeplora::jinja {
namespace {

namespace pt = python_text;
using pt::Side;

void no_names(const char* method, const Arguments& arguments) {
  check(arguments.named.empty(), method, "() takes no keyword arguments");
}

/// Positional arguments alone, at least `least` and at most `most` of them; the others are missing.
Values positional(const char* method, Arguments arguments, size_t least, size_t most) {
  no_names(method, arguments);
  const size_t given = arguments.positional.size();
  check(given >= least && given <= most, method, "() takes ", least == most ? cat(least) : cat(least, " to ", most),
        " arguments, found ", given);
  arguments.positional.resize(most);
  return std::move(arguments.positional);
}

const std::string& text_argument(const char* method, const Value& value) {
  check(value.is_text(), method, "(): expected a str, found ", value.type());
  return value.text();
}

int64_t int_argument(const char* method, const Value& value, int64_t fallback) {
  if (value.is_missing()) return fallback;
  const auto whole = value.integer();
  check(whole.has_value(), method, "(): expected an int, found ", value.type());
  return *whole;
}

Value texts(const std::vector<std::string>& parts) {
  Values out;
  for (const auto& part : parts) out.emplace_back(part);
  return Value::list(std::move(out));
}

std::optional<std::string> set_argument(const char* method, const Value& value) {
  if (value.is_missing() || value.is_none()) return std::nullopt;
  return text_argument(method, value);
}

Value stripped(const char* method, const std::string& text, Arguments arguments, Side side) {
  return pt::strip(text, side, set_argument(method, positional(method, std::move(arguments), 0, 1)[0]));
}

Value split(const std::string& text, Arguments arguments, bool from_right) {
  const auto given = bind("split", std::move(arguments), {{"sep", Value::None{}}, {"maxsplit", Value(-1)}});
  return texts(pt::split(text, set_argument("split", given[0]), int_argument("split", given[1], -1), from_right));
}

/// The part of a text that optional start and end leave; nothing where start lies behind the end.
struct Part {
  std::string_view text;
  size_t first;  ///< code points before it
};
std::optional<Part> part_of(const std::string& text, const Value& start, const Value& stop) {
  const size_t all = pt::length(text);
  if (const auto first = start.integer(); first && *first > static_cast<int64_t>(all)) return std::nullopt;
  const auto [begin, end] = clamped(start, stop, all);
  const size_t from = pt::byte_of(text, begin);
  const std::string_view rest = std::string_view(text).substr(from);
  const auto last = stop.integer();
  if (last && *last < 0 && *last + static_cast<int64_t>(all) < static_cast<int64_t>(begin)) return std::nullopt;
  if (last && *last >= 0 && *last < static_cast<int64_t>(begin)) return std::nullopt;
  return Part{rest.substr(0, pt::byte_of(rest, end - begin)), begin};
}

int64_t found_at(const char* method, const std::string& text, Arguments arguments, bool last) {
  const auto given = positional(method, std::move(arguments), 1, 3);
  const std::string& wanted = text_argument(method, given[0]);
  const auto part = part_of(text, given[1], given[2]);
  if (!part) return -1;
  const size_t at = last ? part->text.rfind(wanted) : part->text.find(wanted);
  if (at == std::string_view::npos) return -1;
  return static_cast<int64_t>(part->first + pt::length(part->text.substr(0, at)));
}

Value index_of(const char* method, const std::string& text, Arguments arguments, bool last) {
  const int64_t at = found_at(method, text, std::move(arguments), last);
  check(at >= 0, "substring not found");
  return at;
}

Value count_in(const std::string& text, Arguments arguments) {
  const auto given = positional("count", std::move(arguments), 1, 3);
  const std::string& wanted = text_argument("count", given[0]);
  const auto part = part_of(text, given[1], given[2]);
  if (!part) return 0;
  if (wanted.empty()) return pt::length(part->text) + 1;
  int64_t count = 0;
  for (size_t at = part->text.find(wanted); at != std::string_view::npos;
       at = part->text.find(wanted, at + wanted.size()))
    ++count;
  return count;
}

Value begins_or_ends(const char* method, const std::string& text, Arguments arguments, bool begins) {
  const auto given = positional(method, std::move(arguments), 1, 3);
  const auto part = part_of(text, given[1], given[2]);
  const auto one = [&](const Value& value) {
    const std::string& wanted = text_argument(method, value);
    return part && (begins ? part->text.starts_with(wanted) : part->text.ends_with(wanted));
  };
  if (!given[0].is_tuple()) return one(given[0]);
  bool any = false;
  for (const auto& value : given[0].items()) any = one(value) || any;
  return any;
}

Value parted(const char* method, const std::string& text, Arguments arguments, bool last) {
  const std::string mark = text_argument(method, positional(method, std::move(arguments), 1, 1)[0]);
  check(!mark.empty(), "empty separator");
  const size_t at = last ? text.rfind(mark) : text.find(mark);
  if (at == std::string::npos) return last ? Value::tuple({"", "", Value(text)}) : Value::tuple({Value(text), "", ""});
  return Value::tuple({Value(text.substr(0, at)), Value(mark), Value(text.substr(at + mark.size()))});
}

Value joined(const std::string& text, Arguments arguments) {
  std::string out;
  bool first = true;
  for (const auto& item : all_items(positional("join", std::move(arguments), 1, 1)[0])) {
    check(item.is_text(), "sequence item: expected str instance, ", item.type(), " found");
    if (!first) out += text;
    first = false;
    out += item.text();
    Budget::text(out.size() / 64);
  }
  return out;
}

/// True when there is a character and all are `fits`.
template <class Fits>
bool all_are(const std::string& text, Fits fits) {
  for (const char32_t code : [&] {
         std::u32string codes;
         for (size_t i = 0; i < text.size(); i = pt::next(text, i)) codes.push_back(pt::code_at(text, i));
         return codes;
       }())
    if (!fits(code)) return false;
  return !text.empty();
}

bool is_cased_as(const std::string& text, bool upper) {
  bool cased = false;
  for (size_t i = 0; i < text.size(); i = pt::next(text, i)) {
    const char32_t code = pt::code_at(text, i);
    if (upper ? pt::is_lower(code) || pt::is_title(code) : pt::is_upper(code) || pt::is_title(code)) return false;
    cased = cased || (upper ? pt::is_upper(code) : pt::is_lower(code));
  }
  return cased;
}

bool is_titled(const std::string& text) {
  bool inside = false, any = false;
  for (size_t i = 0; i < text.size(); i = pt::next(text, i)) {
    const char32_t code = pt::code_at(text, i);
    const bool upper = pt::is_upper(code) || pt::is_title(code), lower = pt::is_lower(code);
    if ((upper && inside) || (lower && !inside)) return false;
    inside = upper || lower;
    any = any || inside;
  }
  return any;
}

Value zero_filled(const std::string& text, int64_t width) {
  const std::string sign = text.starts_with('-') || text.starts_with('+') ? text.substr(0, 1) : "";
  return sign + pt::justify(text.substr(sign.size()), width - static_cast<int64_t>(sign.size()), "0", 1);
}

Value justified(const char* method, const std::string& text, Arguments arguments, int where) {
  const auto given = positional(method, std::move(arguments), 1, 2);
  check(!given[0].is_missing() && given[0].integer(), method, "(): expected an int");
  return pt::justify(text, *given[0].integer(), given[1].is_missing() ? " " : text_argument(method, given[1]), where);
}

using Method = Value (*)(const std::string&, Arguments);

const std::map<std::string, Method>& text_methods() {
  using S = const std::string&;
  using A = Arguments;
  static const auto none = [](const char* name, A& a) { positional(name, std::move(a), 0, 0); };
  static const std::map<std::string, Method> methods{
      {"capitalize",
       [](S s, A a) -> Value {
         none("capitalize", a);
         return pt::capitalize(s);
       }},
      {"casefold",
       [](S s, A a) -> Value {
         none("casefold", a);
         return pt::casefold(s);
       }},
      {"center", [](S s, A a) { return justified("center", s, std::move(a), 0); }},
      {"ljust", [](S s, A a) { return justified("ljust", s, std::move(a), -1); }},
      {"rjust", [](S s, A a) { return justified("rjust", s, std::move(a), 1); }},
      {"count", [](S s, A a) { return count_in(s, std::move(a)); }},
      {"endswith", [](S s, A a) { return begins_or_ends("endswith", s, std::move(a), false); }},
      {"startswith", [](S s, A a) { return begins_or_ends("startswith", s, std::move(a), true); }},
      {"expandtabs",
       [](S s, A a) -> Value {
         return pt::expand_tabs(
             s, int_argument("expandtabs", bind("expandtabs", std::move(a), {{"tabsize", Value(8)}})[0], 8));
       }},
      {"find", [](S s, A a) -> Value { return found_at("find", s, std::move(a), false); }},
      {"rfind", [](S s, A a) -> Value { return found_at("rfind", s, std::move(a), true); }},
      {"index", [](S s, A a) { return index_of("index", s, std::move(a), false); }},
      {"rindex", [](S s, A a) { return index_of("rindex", s, std::move(a), true); }},
      {"format", [](S s, A a) -> Value { return brace_format(s, a); }},
      {"isalnum",
       [](S s, A a) -> Value {
         none("isalnum", a);
         return all_are(s, [](char32_t c) { return pt::is_alphabetic(c) || pt::is_numeric(c); });
       }},
      {"isalpha",
       [](S s, A a) -> Value {
         none("isalpha", a);
         return all_are(s, pt::is_alphabetic);
       }},
      {"isascii",
       [](S s, A a) -> Value {
         none("isascii", a);
         return std::all_of(s.begin(), s.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
       }},
      {"isdecimal",
       [](S s, A a) -> Value {
         none("isdecimal", a);
         return all_are(s, pt::is_decimal);
       }},
      {"isdigit",
       [](S s, A a) -> Value {
         none("isdigit", a);
         return all_are(s, pt::is_digit);
       }},
      {"isnumeric",
       [](S s, A a) -> Value {
         none("isnumeric", a);
         return all_are(s, pt::is_numeric);
       }},
      {"isprintable",
       [](S s, A a) -> Value {
         none("isprintable", a);
         return s.empty() || all_are(s, pt::is_printable);
       }},
      {"isspace",
       [](S s, A a) -> Value {
         none("isspace", a);
         return all_are(s, pt::is_space);
       }},
      {"islower",
       [](S s, A a) -> Value {
         none("islower", a);
         return is_cased_as(s, false);
       }},
      {"isupper",
       [](S s, A a) -> Value {
         none("isupper", a);
         return is_cased_as(s, true);
       }},
      {"istitle",
       [](S s, A a) -> Value {
         none("istitle", a);
         return is_titled(s);
       }},
      {"join", [](S s, A a) { return joined(s, std::move(a)); }},
      {"lower",
       [](S s, A a) -> Value {
         none("lower", a);
         return pt::lower(s);
       }},
      {"upper",
       [](S s, A a) -> Value {
         none("upper", a);
         return pt::upper(s);
       }},
      {"title",
       [](S s, A a) -> Value {
         none("title", a);
         return pt::title(s);
       }},
      {"swapcase",
       [](S s, A a) -> Value {
         none("swapcase", a);
         return pt::swapcase(s);
       }},
      {"strip", [](S s, A a) { return stripped("strip", s, std::move(a), Side::both); }},
      {"lstrip", [](S s, A a) { return stripped("lstrip", s, std::move(a), Side::left); }},
      {"rstrip", [](S s, A a) { return stripped("rstrip", s, std::move(a), Side::right); }},
      {"partition", [](S s, A a) { return parted("partition", s, std::move(a), false); }},
      {"rpartition", [](S s, A a) { return parted("rpartition", s, std::move(a), true); }},
      {"removeprefix",
       [](S s, A a) -> Value {
         const auto prefix = text_argument("removeprefix", positional("removeprefix", std::move(a), 1, 1)[0]);
         return s.starts_with(prefix) ? s.substr(prefix.size()) : s;
       }},
      {"removesuffix",
       [](S s, A a) -> Value {
         const auto suffix = text_argument("removesuffix", positional("removesuffix", std::move(a), 1, 1)[0]);
         return s.ends_with(suffix) ? s.substr(0, s.size() - suffix.size()) : s;
       }},
      {"replace",
       [](S s, A a) -> Value {
         const auto given = positional("replace", std::move(a), 2, 3);
         return pt::replace(s, text_argument("replace", given[0]), text_argument("replace", given[1]),
                            int_argument("replace", given[2], -1));
       }},
      {"split", [](S s, A a) { return split(s, std::move(a), false); }},
      {"rsplit", [](S s, A a) { return split(s, std::move(a), true); }},
      {"splitlines",
       [](S s, A a) {
         return texts(pt::split_lines(s, truth(bind("splitlines", std::move(a), {{"keepends", Value(false)}})[0])));
       }},
      {"zfill",
       [](S s, A a) {
         const auto width = positional("zfill", std::move(a), 1, 1)[0].integer();
         check(width.has_value(), "zfill(): expected an int");
         return zero_filled(s, *width);
       }},
  };
  return methods;
}

/// What a method gives for escaped text is escaped too, its arguments first.
Value marked_safe(const Value& value) {
  if (value.is_text()) return Value(value.text(), true);
  if (!value.is_list() && !value.is_tuple()) return value;
  Values out;
  for (const auto& item : value.items()) out.push_back(marked_safe(item));
  return value.is_list() ? Value::list(std::move(out)) : Value::tuple(std::move(out));
}

Arguments escaped(Arguments arguments) {
  const auto one = [](Value& value) {
    if (value.is_text() && !value.is_safe()) value = Value(pt::escape_html(value.text()), true);
  };
  for (auto& value : arguments.positional) one(value);
  for (auto& value : arguments.named) one(value.second);
  return arguments;
}

std::optional<Value> text_attribute(const Value& of, const std::string& name) {
  const auto found = text_methods().find(name);
  if (found == text_methods().end()) {
    for (const char* known : {"encode", "format_map", "isidentifier", "maketrans", "translate"})
      if (name == known)
        return make_function(name, [name](Arguments) -> Value { fail("str.", name, " is not supported"); });
    return std::nullopt;
  }
  return make_function(name, [of, name, method = found->second](Arguments arguments) {
    if (!of.is_safe()) return method(of.text(), std::move(arguments));
    check(name != "join" && name != "format", "str.", name, " of escaped text (|safe, |escape) is not supported");
    return marked_safe(method(of.text(), escaped(std::move(arguments))));
  });
}

Value counted(const Values& items, Arguments arguments) {
  const auto given = positional("count", std::move(arguments), 1, 1);
  return static_cast<int64_t>(std::count_if(
      items.begin(), items.end(), [&](const Value& item) { return item.same(given[0]) || equal(item, given[0]); }));
}

Value index_among(const Values& items, Arguments arguments) {
  const auto given = positional("index", std::move(arguments), 1, 3);
  const auto [begin, end] = clamped(given[1], given[2], items.size());
  for (size_t i = begin; i < end; ++i)
    if (items[i].same(given[0]) || equal(items[i], given[0])) return i;
  fail("the value is not in the list");
}

std::optional<Value> sequence_attribute(const Value& of, const std::string& name) {
  if (name == "count")
    return make_function(name, [of](Arguments a) { return counted(of.items(), std::move(a)); }, of.depth());
  if (name == "index")
    return make_function(name, [of](Arguments a) { return index_among(of.items(), std::move(a)); }, of.depth());
  if (of.is_tuple()) return std::nullopt;
  if (name == "copy")
    return make_function(
        name, [of](Arguments a) { return positional("copy", std::move(a), 0, 0), Value::list(of.items()); },
        of.depth());
  static const std::set<std::string> changing{"append", "clear", "pop",    "reverse",
                                              "insert", "sort",  "extend", "remove"};
  if (!changing.contains(name)) return std::nullopt;
  return Value::undefined(cat("access to attribute '", name, "' of 'list' object is unsafe."));
}

Value view_of(const std::shared_ptr<const Dict>& dict, DictView::Part part, const char* name, Arguments arguments) {
  positional(name, std::move(arguments), 0, 0);
  return Value(std::static_pointer_cast<Object>(std::make_shared<DictView>(dict, part)));
}

std::optional<Value> dict_attribute(const Value& of, const std::string& name) {
  const auto& dict = of.dict_ptr();
  const auto view = [&](DictView::Part part, const char* method) {
    return make_function(
        name, [dict, part, method](Arguments a) { return view_of(dict, part, method, std::move(a)); }, of.depth());
  };
  if (name == "keys") return view(DictView::Part::keys, "keys");
  if (name == "values") return view(DictView::Part::values, "values");
  if (name == "items") return view(DictView::Part::items, "items");
  if (name == "get")
    return make_function(
        name,
        [dict](Arguments arguments) -> Value {
          const auto given = positional("get", std::move(arguments), 1, 2);
          const Value* found = dict->find(given[0]);
          if (found) return *found;
          return given[1].is_missing() ? Value(Value::None{}) : given[1];
        },
        of.depth());
  if (name == "copy")
    return make_function(
        name, [dict](Arguments a) { return positional("copy", std::move(a), 0, 0), Value(Dict(*dict)); }, of.depth());
  if (name == "fromkeys")
    return make_function(name, [](Arguments) -> Value { fail("dict.fromkeys is not supported"); });
  static const std::set<std::string> changing{"clear", "pop", "popitem", "setdefault", "update"};
  if (!changing.contains(name)) return std::nullopt;
  return Value::undefined(cat("access to attribute '", name, "' of 'dict' object is unsafe."));
}

std::optional<Value> number_attribute(const Value& of, const std::string& name) {
  if (name == "real") return of.is_float() ? of : Value(*of.integer());
  if (name == "imag") return of.is_float() ? Value(0.0) : Value(0);
  if (!of.is_float() && name == "numerator") return Value(*of.integer());
  if (!of.is_float() && name == "denominator") return Value(1);
  if (of.is_float() && name == "is_integer") {
    const double real = of.real();
    return make_function(name, [real](Arguments a) {
      positional("is_integer", std::move(a), 0, 0);
      return Value(std::isfinite(real) && real == std::trunc(real));
    });
  }
  static const std::set<std::string> others{"as_integer_ratio", "bit_length", "bit_count", "conjugate",
                                            "from_bytes",       "to_bytes",   "fromhex",   "hex"};
  if (!others.contains(name)) return std::nullopt;
  return make_function(name,
                       [name](Arguments) -> Value { fail("the method '", name, "' of numbers is not supported"); });
}

}  // namespace

std::optional<Value> builtin_attribute(const Value& of, const std::string& name) {
  if (of.is_text()) return text_attribute(of, name);
  if (of.is_list() || of.is_tuple()) return sequence_attribute(of, name);
  if (of.is_dict()) return dict_attribute(of, name);
  if (of.number()) return number_attribute(of, name);
  return std::nullopt;
}

}  // namespace deeplora::jinja
