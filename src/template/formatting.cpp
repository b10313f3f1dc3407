// Values as text by a format: "%s" % x, "{:>5}".format(x), json.dumps(x).
#include <algorithm>
#include <cmath>

#include "template/operations.h"
#include "template/python_text.h"
#include "text/unicode.h"

namespace deeplora::jinja {
namespace {

namespace pt = python_text;

constexpr int64_t kWidest = 100000;  ///< of a field

/// How one value is to stand, as both mini-languages say it.
struct Spec {
  std::string fill = " ";
  char align = 0;  ///< < > = ^, or none
  char sign = '-', grouping = 0, type = 0;
  bool alternate = false;
  int64_t width = 0, precision = -1;
};

std::string grouped(const std::string& digits, char mark, size_t every = 3) {
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i && (digits.size() - i) % every == 0) out += mark;
    out += digits[i];
  }
  return out;
}

/// Sign and digits in a field; zeros go between them.
std::string in_field(const std::string& sign, const std::string& digits, const Spec& spec, char align) {
  const std::string whole = sign + digits;
  if (spec.align) align = spec.align;
  if (align == '=') {
    const auto width = spec.width - static_cast<int64_t>(sign.size());
    return sign + pt::justify(digits, width, spec.fill, 1);
  }
  if (align == '^') {
    const int64_t missing = spec.width - static_cast<int64_t>(pt::length(whole));
    if (missing <= 0) return whole;
    return pt::justify(pt::justify(whole, spec.width - (missing - missing / 2), spec.fill, 1), spec.width, spec.fill,
                       -1);
  }
  return pt::justify(whole, spec.width, spec.fill, align == '<' ? -1 : 1);
}

std::string sign_of(bool negative, const Spec& spec) {
  return negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
}

std::string whole_digits(uint64_t value, char type) {
  if (type == 'c') {
    check(value <= 0x10FFFF && !(value >= 0xD800 && value < 0xE000), "%c arg not in range(0x110000)");
    std::string out;
    append_utf8(out, static_cast<char32_t>(value));
    return out;
  }
  const unsigned base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
  std::string out;
  do {
    out += (type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[value % base];
    value /= base;
  } while (value);
  std::reverse(out.begin(), out.end());
  return out;
}

std::string whole_text(int64_t value, const Spec& spec) {
  const char type = spec.type ? spec.type : 'd';
  const bool negative = value < 0;
  std::string digits = whole_digits(negative ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value),
                                    type == 'n' ? 'd' : type);
  if (spec.grouping) digits = grouped(digits, spec.grouping, type == 'd' ? 3 : 4);
  std::string sign = type == 'c' ? "" : sign_of(negative, spec);
  if (spec.alternate && type != 'd') sign += std::string("0") + type;
  check(!(spec.grouping && spec.align == '=' && spec.fill == "0"),
        "grouped digits padded with zeros are not supported");
  return in_field(sign, digits, spec, type == 'c' ? '<' : '>');
}

std::string real_text(double value, const Spec& spec) {
  char type = spec.type;
  std::string digits;
  const double size = std::abs(value);
  if (!std::isfinite(value)) {
    digits = std::isnan(value) ? "nan" : "inf";
    if (type == 'F' || type == 'E' || type == 'G') digits = pt::upper(digits);
    if (type == '%') digits += "%";
  } else if (type == 0 && spec.precision < 0) {
    digits = pt::repr(size);
  } else {
    check(spec.precision <= 200, "a precision of ", spec.precision, " is not supported");
    check(type != 0 && type != 'n', "a precision without a type is not supported for floats");
    char form[16] = "%.*f", buffer[640];
    form[3] = type == '%' ? 'f' : type;
    if (spec.alternate) std::snprintf(form, sizeof form, "%%#.*%c", type == '%' ? 'f' : type);
    std::snprintf(buffer, sizeof buffer, form, static_cast<int>(spec.precision < 0 ? 6 : spec.precision),
                  type == '%' ? size * 100 : size);
    digits = buffer;
    if (type == '%') digits += '%';
  }
  if (spec.grouping) {
    const size_t end = std::min(digits.find_first_not_of("0123456789"), digits.size());
    digits = grouped(digits.substr(0, end), spec.grouping) + digits.substr(end);
    check(!(spec.align == '=' && spec.fill == "0"), "grouped digits padded with zeros are not supported");
  }
  return in_field(sign_of(std::signbit(value) && !std::isnan(value), spec), digits, spec, '>');
}

// ---- "%s" % values ----

class Percent {
 public:
  Percent(const std::string& format, const Value& values) : format_(format), values_(values) {
    if (values.is_tuple()) left_ = values.items();
    else left_ = {values};
  }

  std::string run() {
    std::string out;
    while (at_ < format_.size()) {
      if (format_[at_] != '%') {
        out += format_[at_++];
        continue;
      }
      ++at_;
      out += one();
      Budget::step(1 + out.size() / 256);
    }
    const bool mapping = values_.is_dict() || values_.is_list() || values_.is_object();
    check(values_.is_tuple() ? next_ == left_.size() : next_ == 1 || named_ || mapping,
          "not all arguments converted during string formatting");
    return out;
  }

 private:
  char peek() const {
    check(at_ < format_.size(), "incomplete format");
    return format_[at_];
  }
  const Value& argument() {
    check(next_ < left_.size() && !named_, "not enough arguments for format string");
    return left_[next_++];
  }
  int64_t number(bool& negative) {
    if (peek() == '*') {
      ++at_;
      const auto whole = argument().integer();
      check(whole.has_value(), "* wants int");
      negative = *whole < 0;
      return std::abs(*whole);
    }
    int64_t out = 0;
    while (peek() >= '0' && peek() <= '9' && out < kWidest) out = out * 10 + (format_[at_++] - '0');
    return out;
  }

  std::string one() {
    std::optional<std::string> key;
    if (peek() == '%') {
      ++at_;
      return "%";
    }
    if (peek() == '(') {
      const size_t end = format_.find(')', at_);
      check(end != std::string::npos, "incomplete format key");
      key = format_.substr(at_ + 1, end - at_ - 1);
      check(key->find('(') == std::string::npos, "parentheses in a format key are not supported");
      at_ = end + 1;
    }
    Spec spec;
    bool zero = false, left = false, ignored = false;
    for (; std::string_view("-+ #0").find(peek()) != std::string_view::npos; ++at_) {
      if (format_[at_] == '-') left = true;
      if (format_[at_] == '0') zero = true;
      if (format_[at_] == '#') spec.alternate = true;
      if (format_[at_] == '+' || (format_[at_] == ' ' && spec.sign != '+')) spec.sign = format_[at_];
    }
    spec.width = number(left);
    if (peek() == '.') {
      ++at_;
      spec.precision = number(ignored);
      if (ignored) spec.precision = 0;
    }
    check(spec.width < kWidest && spec.precision < kWidest, "a field of ", spec.width, " characters is too wide");
    while (peek() == 'l' || peek() == 'h' || peek() == 'L') ++at_;
    spec.type = peek();
    ++at_;
    spec.align = left ? '<' : '>';
    if (!key) return shown(argument(), spec, zero && !left);
    check(values_.is_dict(), "format requires a mapping");
    const Value* found = values_.dict().find(Value(*key));
    check(found != nullptr, "no value for the format key '", *key, "'");
    named_ = true;
    return shown(*found, spec, zero && !left);
  }

  static std::string shown(const Value& value, Spec spec, bool zero) {
    const auto fill_zeros = [&] {
      if (zero) spec.align = '=', spec.fill = "0";
    };
    switch (spec.type) {
      case 's':
      case 'r':
      case 'a': {
        check(spec.type != 'a', "%a is not supported");
        std::string text = spec.type == 's' ? to_text(value) : repr(value);
        if (spec.precision >= 0) text.resize(pt::byte_of(text, static_cast<size_t>(spec.precision)));
        return in_field("", text, spec, '>');
      }
      case 'd':
      case 'i':
      case 'u': {
        if (value.is_undefined()) value.fail_undefined();
        check(value.number().has_value(), "%", spec.type, " format: a real number is required, not ", value.type());
        fill_zeros();
        check(spec.precision < 0, "a precision of whole numbers is not supported");
        check(!value.is_float() || std::abs(value.real()) < 9e18, "a whole number beyond 64 bits");
        spec.type = 'd';
        return whole_text(value.is_float() ? static_cast<int64_t>(value.real()) : *value.integer(), spec);
      }
      case 'x':
      case 'X':
      case 'o': {
        check(value.integer().has_value(), "%", spec.type, " format: an integer is required, not ", value.type());
        check(spec.precision < 0, "a precision of whole numbers is not supported");
        fill_zeros();
        return whole_text(*value.integer(), spec);
      }
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': {
        if (value.is_undefined()) value.fail_undefined();
        check(value.number().has_value(), "must be real number, not ", value.type());
        fill_zeros();
        return real_text(*value.number(), spec);
      }
      case 'c': {
        if (value.is_text()) {
          check(pt::length(value.text()) == 1, "%c requires int or char");
          return in_field("", value.text(), spec, '>');
        }
        check(value.integer() && *value.integer() >= 0, "%c requires int or char");
        return in_field("", whole_digits(static_cast<uint64_t>(*value.integer()), 'c'), spec, '>');
      }
      default: fail("unsupported format character '", spec.type, "'");
    }
  }

  const std::string& format_;
  const Value& values_;
  Values left_;
  size_t at_ = 0, next_ = 0;
  bool named_ = false;
};

// ---- "{}".format(values) ----

Spec parse_spec(const std::string& text) {
  Spec spec;
  size_t at = 0;
  const auto is_align = [&](size_t i) {
    return i < text.size() && std::string_view("<>=^").find(text[i]) != std::string_view::npos;
  };
  if (!text.empty() && is_align(pt::next(text, 0))) {
    spec.fill = text.substr(0, pt::next(text, 0));
    at = spec.fill.size();
    spec.align = text[at++];
  } else if (is_align(0)) {
    spec.align = text[at++];
  }
  const auto have = [&](std::string_view set) {
    return at < text.size() && set.find(text[at]) != std::string_view::npos;
  };
  if (have("+- ")) spec.sign = text[at++];
  check(!have("z"), "the format option z is not supported");
  if (have("#")) spec.alternate = true, ++at;
  if (have("0")) {
    if (!spec.align) spec.align = '=', spec.fill = "0";
    ++at;
  }
  const auto number = [&] {
    int64_t out = 0;
    while (have("0123456789") && out < kWidest) out = out * 10 + (text[at++] - '0');
    check(out < kWidest, "a field that wide is not supported");
    return out;
  };
  spec.width = number();
  if (have(",_")) spec.grouping = text[at++];
  if (have(".")) {
    ++at;
    check(have("0123456789"), "Format specifier missing precision");
    spec.precision = number();
  }
  if (at < text.size()) spec.type = text[at++];
  check(at == text.size(), "Invalid format specifier '", text, "'");
  return spec;
}

std::string formatted(const Value& value, const std::string& text) {
  if (text.empty()) return to_text(value);
  if (value.is_text()) {
    const Spec spec = parse_spec(text);
    check((spec.type == 0 || spec.type == 's') && spec.sign == '-' && !spec.alternate && !spec.grouping &&
              text[0] != '-' && spec.align != '=',
          "Invalid format specifier '", text, "' for object of type 'str'");
    std::string shown = value.text();
    if (spec.precision >= 0) shown.resize(pt::byte_of(shown, static_cast<size_t>(spec.precision)));
    return in_field("", shown, spec, '<');
  }
  check(value.number().has_value(), "unsupported format string passed to ", value.type(), ".__format__");
  Spec spec = parse_spec(text);
  const bool real = spec.type != 0 && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos;
  if (value.is_float() || real) {
    check(spec.type == 0 || real || spec.type == 'n', "Unknown format code '", spec.type,
          "' for object of type 'float'");
    return real_text(*value.number(), spec);
  }
  check(spec.type == 0 || std::string_view("bcdoxXn").find(spec.type) != std::string_view::npos,
        "Unknown format code '", spec.type, "' for object of type 'int'");
  check(spec.precision < 0, "Precision not allowed in integer format specifier");
  if (value.is_bool() && spec.type == 0) spec.type = 'd';
  return whole_text(*value.integer(), spec);
}

class Braces {
 public:
  explicit Braces(const Arguments& arguments) : arguments_(arguments) {}

  std::string run(const std::string& text, int depth) {
    check(depth < 2, "Max string recursion exceeded");
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const char c = text[at];
      if (c != '{' && c != '}') {
        out += text[at++];
        continue;
      }
      if (at + 1 < text.size() && text[at + 1] == c) {
        out += c;
        at += 2;
        continue;
      }
      check(c == '{', "Single '}' encountered in format string");
      size_t end = at + 1;
      for (int open = 1; open > 0; ++end) {
        check(end < text.size(), "expected '}' before end of string");
        open += text[end] == '{' ? 1 : text[end] == '}' ? -1 : 0;
      }
      out += field(text.substr(at + 1, end - at - 2), depth);
      Budget::step(1 + out.size() / 256);
      at = end;
    }
    return out;
  }

 private:
  std::string field(const std::string& text, int depth) {
    const size_t mark = text.find_first_of("!:");
    std::string name = text.substr(0, mark), spec;
    char conversion = 0;
    if (mark != std::string::npos) {
      size_t at = mark;
      if (text[at] == '!') {
        check(at + 1 < text.size(), "end of string while looking for conversion specifier");
        conversion = text[at + 1];
        at += 2;
        check(at == text.size() || text[at] == ':', "expected ':' after conversion specifier");
      }
      if (at < text.size()) spec = run(text.substr(at + 1), depth + 1);
    }
    check(name.find_first_of("{}") == std::string::npos, "unexpected '{' in field name");
    Value value = lookup(name);
    if (conversion) {
      check(conversion == 's' || conversion == 'r', "the conversion !", conversion, " is not supported");
      value = Value(conversion == 's' ? to_text(value) : repr(value));
    }
    return formatted(value, spec);
  }

  Value lookup(const std::string& name) {
    const size_t first = std::min(name.find_first_of(".["), name.size());
    check(first > 0 || name.empty(), "no value for the format key ''");  // only a field without any name is counted
    Value out = base(name.substr(0, first));
    for (size_t at = first; at < name.size();) {
      if (name[at] == '.') {
        const size_t end = std::min(name.find_first_of(".[", at + 1), name.size());
        check(end > at + 1, "Empty attribute in format string");
        out = get_attribute(out, name.substr(at + 1, end - at - 1));
        at = end;
        continue;
      }
      check(name[at] == '[', "Only '.' or '[' may follow ']' in format field specifier");
      const size_t end = name.find(']', at);
      check(end != std::string::npos && end > at + 1,
            end == std::string::npos ? "Missing ']' in format string" : "Empty attribute in format string");
      const std::string key = name.substr(at + 1, end - at - 1);
      const bool number = key.find_first_not_of("0123456789") == std::string::npos && key.size() < 18;
      out = get_item(out, number ? Value(int64_t{std::stoll(key)}) : Value(key));
      at = end + 1;
    }
    return out;
  }

  Value base(const std::string& name) {
    const bool number = name.find_first_not_of("0123456789") == std::string::npos;
    if (!number) {
      for (const auto& [key, value] : arguments_.named)
        if (key == name) return value;
      fail("no value for the format key '", name, "'");
    }
    check(name.size() < 9, "Too many decimal digits in format string");
    check(name.empty() ? !counted_by_hand_ : !counted_,
          "cannot switch between manual field specification and automatic field numbering");
    (name.empty() ? counted_ : counted_by_hand_) = true;
    const size_t place = name.empty() ? next_++ : std::stoul(name);
    check(place < arguments_.positional.size(), "Replacement index ", place, " out of range for positional args tuple");
    return arguments_.positional[place];
  }

  const Arguments& arguments_;
  size_t next_ = 0;
  bool counted_ = false, counted_by_hand_ = false;
};

// ---- JSON ----

std::string json_text(const std::string& text, bool ascii) {
  std::string out = "\"";
  const auto number = [&](unsigned code) {
    static const char* kHex = "0123456789abcdef";
    out += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out += kHex[(code >> shift) & 15];
  };
  for (size_t at = 0; at < text.size(); at = pt::next(text, at)) {
    const char32_t code = pt::code_at(text, at);
    if (code == '"' || code == '\\') (out += '\\') += static_cast<char>(code);
    else if (code == '\n') out += "\\n";
    else if (code == '\r') out += "\\r";
    else if (code == '\t') out += "\\t";
    else if (code == '\b') out += "\\b";
    else if (code == '\f') out += "\\f";
    else if (code < 0x20 || (ascii && code > 0x7E && code < 0x10000)) number(static_cast<unsigned>(code));
    else if (ascii && code >= 0x10000) {
      number(0xD800 + static_cast<unsigned>((code - 0x10000) >> 10));
      number(0xDC00 + static_cast<unsigned>((code - 0x10000) & 0x3FF));
    } else out += text.substr(at, pt::next(text, at) - at);
  }
  return out + "\"";
}

std::string json_number(const Value& value) {
  if (value.is_bool()) return value.boolean() ? "true" : "false";
  if (value.is_int()) return std::to_string(*value.integer());
  if (std::isnan(value.real())) return "NaN";
  if (std::isinf(value.real())) return value.real() < 0 ? "-Infinity" : "Infinity";
  return pt::repr(value.real());
}

std::string json_key(const Value& key, bool ascii) {
  if (key.is_text()) return json_text(key.text(), ascii);
  if (key.is_none()) return "\"null\"";
  check(key.number().has_value(), "keys must be str, int, float, bool or None, not ", key.type());
  return "\"" + json_number(key) + "\"";
}

class Json {
 public:
  explicit Json(const JsonOptions& options) : options_(options) {}
  std::string of(const Value& value) {
    Budget::step();
    if (value.is_text()) return json_text(value.text(), options_.ascii);
    if (value.is_none()) return "null";
    if (value.number()) return json_number(value);
    if (value.is_object())
      if (const auto tuple = value.object()->as_tuple()) return of(*tuple);
    std::string out;
    if (value.is_list() || value.is_tuple()) out = list(value.items());
    else if (value.is_dict()) out = object(value.dict());
    else fail("Object of type ", value.type(), " is not JSON serializable");
    Budget::text(out.size());
    return out;
  }

 private:
  std::string line() const {
    std::string out = "\n";
    for (int i = 0; i < depth_; ++i) out += *options_.indent;
    return options_.indent ? out : "";
  }
  template <class Each>
  std::string between(const char* open, const char* close, size_t count, Each each) {
    if (count == 0) return std::string(open) + close;
    std::string out = open;
    ++depth_;
    for (size_t i = 0; i < count; ++i) {
      if (i) out += options_.item_separator;
      if (options_.indent) out += line();
      out += each(i);
    }
    --depth_;
    if (options_.indent) out += line();
    return out + close;
  }
  std::string list(const Values& items) {
    return between("[", "]", items.size(), [&](size_t i) { return of(items[i]); });
  }
  std::string object(const Dict& dict) {
    auto entries = dict.entries();
    if (options_.sorted)
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto& a, const auto& b) { return less(a.first, b.first); });
    return between("{", "}", entries.size(), [&](size_t i) {
      return json_key(entries[i].first, options_.ascii) + options_.key_separator + of(entries[i].second);
    });
  }
  const JsonOptions& options_;
  int depth_ = 0;
};

}  // namespace

Value percent_format(const Value& format, const Value& values) {
  check(!format.is_safe(), "% of escaped text (|safe, |escape) is not supported");
  return Percent(format.text(), values).run();
}

std::string brace_format(const std::string& format, const Arguments& arguments) {
  return Braces(arguments).run(format, 0);
}

std::string to_json(const Value& value, const JsonOptions& options) { return Json(options).of(value); }

}  // namespace deeplora::jinja
