#include "template/operations.h"

#include <cmath>

#include "template/python_text.h"

namespace deeplora::jinja {
namespace {

using E = Expr::Kind;

const char* symbol_of(E kind) {
  switch (kind) {
    case E::add: return "+";
    case E::subtract: return "-";
    case E::multiply: return "*";
    case E::divide: return "/";
    case E::floor_divide: return "//";
    case E::modulo: return "%";
    default: return "**";
  }
}

[[noreturn]] void beyond() { fail("a whole number beyond 64 bits"); }

int64_t power_of(int64_t base, int64_t exponent) {
  int64_t out = 1;
  for (;;) {
    if (exponent & 1 && __builtin_mul_overflow(out, base, &out)) beyond();
    exponent >>= 1;
    if (exponent == 0) return out;
    if (__builtin_mul_overflow(base, base, &base)) beyond();
  }
}

Value whole_numbers(E kind, int64_t a, int64_t b) {
  int64_t out = 0;
  switch (kind) {
    case E::add:
      if (__builtin_add_overflow(a, b, &out)) beyond();
      return out;
    case E::subtract:
      if (__builtin_sub_overflow(a, b, &out)) beyond();
      return out;
    case E::multiply:
      if (__builtin_mul_overflow(a, b, &out)) beyond();
      return out;
    case E::divide:
      check(b != 0, "division by zero");
      if (std::abs(static_cast<double>(a)) < 9e15 && std::abs(static_cast<double>(b)) < 9e15)
        return static_cast<double>(a) / static_cast<double>(b);
      return static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b));
    case E::floor_divide:
    case E::modulo: {
      check(b != 0, "integer division or modulo by zero");
      if (b == -1) {
        if (kind == E::modulo) return 0;
        if (a == INT64_MIN) beyond();
        return -a;
      }
      int64_t quotient = a / b, rest = a % b;
      if (rest != 0 && (rest < 0) != (b < 0)) rest += b, --quotient;
      return kind == E::modulo ? rest : quotient;
    }
    default:
      if (b >= 0) return power_of(a, b);
      check(a != 0, "0.0 cannot be raised to a negative power");
      return std::pow(static_cast<double>(a), static_cast<double>(b));
  }
}

Value real_numbers(E kind, double a, double b) {
  switch (kind) {
    case E::add: return a + b;
    case E::subtract: return a - b;
    case E::multiply: return a * b;
    case E::divide: check(b != 0, "float division by zero"); return a / b;
    case E::floor_divide:
    case E::modulo: {
      check(b != 0, "float floor division or modulo by zero");
      double rest = std::fmod(a, b);
      double quotient = (a - rest) / b;
      if (rest != 0) {
        if ((b < 0) != (rest < 0)) rest += b, quotient -= 1;
      } else {
        rest = std::copysign(0.0, b);
      }
      if (kind == E::modulo) return rest;
      if (quotient == 0) return std::copysign(0.0, a / b);
      const double floor = std::floor(quotient);
      return quotient - floor > 0.5 ? floor + 1 : floor;
    }
    default: {
      check(a != 0 || b >= 0, "0.0 cannot be raised to a negative power");
      check(a >= 0 || b == std::trunc(b) || std::isinf(b), "complex numbers are not supported");
      const double out = std::pow(a, b);
      check(std::isfinite(out) || !std::isfinite(a) || !std::isfinite(b), "Numerical result out of range");
      return out;
    }
  }
}

Value repeated(const Value& what, int64_t count) {
  count = std::max<int64_t>(count, 0);
  if (what.is_text()) {
    const auto size = static_cast<size_t>(count) * std::max<size_t>(1, what.text().size());
    check(count <= static_cast<int64_t>(Budget::kLongestText), "a text repeated ", count, " times is too long");
    Budget::text(size);
    std::string out;
    for (int64_t i = 0; i < count && !what.text().empty(); ++i) out += what.text();
    return Value(std::move(out), what.is_safe());
  }
  const Values& items = what.items();
  check(count <= static_cast<int64_t>(Budget::kSteps), "a list repeated ", count, " times is too long");
  Budget::step(static_cast<size_t>(count) * std::max<size_t>(1, items.size()));
  Values out;
  for (int64_t i = 0; i < count && !items.empty(); ++i) out.insert(out.end(), items.begin(), items.end());
  return what.is_list() ? Value::list(std::move(out)) : Value::tuple(std::move(out));
}

bool repeats(const Value& value) { return value.is_text() || value.is_list() || value.is_tuple(); }

std::string joined_texts(const Value& a, const Value& b) {
  const bool safe = a.is_safe() || b.is_safe();
  const auto one = [&](const Value& value) {
    return safe && !value.is_safe() ? python_text::escape_html(value.text()) : value.text();
  };
  return one(a) + one(b);
}

std::optional<Value> added(const Value& a, const Value& b) {
  if (a.is_text() && b.is_text()) return Value(joined_texts(a, b), a.is_safe() || b.is_safe());
  if (!(a.is_list() && b.is_list()) && !(a.is_tuple() && b.is_tuple())) return std::nullopt;
  Values items = a.items();
  items.insert(items.end(), b.items().begin(), b.items().end());
  return a.is_list() ? Value::list(std::move(items)) : Value::tuple(std::move(items));
}

/// What Python calls the type of an object in messages of undefined values.
std::string owner(const Value& of) { return of.is_none() ? "None" : of.type() + " object"; }

/// An attribute, as the sandbox lets it be seen.
std::optional<Value> visible_attribute(const Value& of, const std::string& name) {
  auto found = of.is_object() ? of.object()->attribute(name) : builtin_attribute(of, name);
  const bool internal = name.starts_with("__") && name.ends_with("__");
  if (!found && !internal) return std::nullopt;
  if (found && !name.starts_with("_")) return found;
  return Value::undefined(cat("access to attribute '", name, "' of '", of.type(), "' object is unsafe."));
}

/// Attributes that every Python object has and the sandbox hides.
bool is_internal_of_all(const std::string& name) {
  for (const char* one : {"__class__", "__doc__", "__init__", "__new__", "__eq__", "__ne__", "__str__", "__repr__",
                          "__hash__", "__module__"})
    if (name == one) return true;
  return false;
}

/// value[key] where that is no error.
std::optional<Value> item_of(const Value& of, const Value& key) {
  if (of.is_dict()) {
    const Value* found = is_hashable(key) ? of.dict().find(key) : nullptr;
    return found ? std::optional(*found) : std::nullopt;
  }
  if (of.is_object()) return of.object()->subscriptable() ? of.object()->item(key) : std::nullopt;
  if (!of.is_text() && !of.is_list() && !of.is_tuple()) return std::nullopt;
  auto at = key.integer();
  if (!at) return std::nullopt;
  const int64_t count = length(of);
  if (*at < 0) *at += count;
  if (*at < 0 || *at >= count) return std::nullopt;
  if (!of.is_text()) return of.items()[static_cast<size_t>(*at)];
  const size_t begin = python_text::byte_of(of.text(), static_cast<size_t>(*at));
  return Value(of.text().substr(begin, python_text::next(of.text(), begin) - begin), of.is_safe());
}

/// slice.indices of Python.
struct Indices {
  int64_t start, stop, step;
};

Indices indices(const Value& start, const Value& stop, const Value& step, int64_t length) {
  const auto given = [](const Value& value, int64_t fallback) {
    if (value.is_missing() || value.is_none()) return fallback;
    if (value.is_undefined()) fail("slice indices must be integers or None");
    const auto whole = value.integer();
    check(whole.has_value(), "slice indices must be integers or None, found ", value.type());
    return *whole;
  };
  Indices out{0, 0, given(step, 1)};
  check(out.step != 0, "slice step cannot be zero");
  const bool back = out.step < 0;
  const auto place = [&](const Value& value, int64_t fallback) {
    int64_t at = given(value, fallback);
    if (value.is_missing() || value.is_none()) return at;
    if (at < 0) at = std::max<int64_t>(at + length, back ? -1 : 0);
    return std::min(at, back ? length - 1 : length);
  };
  out.start = place(start, back ? length - 1 : 0);
  out.stop = place(stop, back ? -1 : length);
  return out;
}

}  // namespace

bool is_hashable(const Value& value) {
  if (value.is_list() || value.is_dict()) return false;
  if (value.is_tuple()) {
    for (const auto& item : value.items())
      if (!is_hashable(item)) return false;
    return true;
  }
  return !value.is_object() || value.object()->hashable();
}

Value arithmetic(E kind, const Value& a, const Value& b) {
  if (kind == E::modulo && a.is_text()) return percent_format(a, b);
  for (const auto* value : {&a, &b})
    if (value->is_undefined()) value->fail_undefined();
  if (a.integer() && b.integer()) return whole_numbers(kind, *a.integer(), *b.integer());
  if (a.number() && b.number()) return real_numbers(kind, *a.number(), *b.number());
  if (kind == E::add)
    if (auto sum = added(a, b)) return *sum;
  if (kind == E::multiply) {
    if (repeats(a) && b.integer()) return repeated(a, *b.integer());
    if (repeats(b) && a.integer()) return repeated(b, *a.integer());
  }
  fail("unsupported operand type(s) for ", symbol_of(kind), ": '", a.type(), "' and '", b.type(), "'");
}

Value negative(const Value& value) {
  if (value.is_undefined()) value.fail_undefined();
  if (value.is_float()) return -value.real();
  const auto whole = value.integer();
  check(whole.has_value(), "bad operand type for unary -: '", value.type(), "'");
  if (*whole == INT64_MIN) beyond();
  return -*whole;
}

Value positive(const Value& value) {
  if (value.is_undefined()) value.fail_undefined();
  if (value.is_float()) return value;
  const auto whole = value.integer();
  check(whole.has_value(), "bad operand type for unary +: '", value.type(), "'");
  return *whole;
}

bool compare(const std::string& op, const Value& a, const Value& b) {
  if (op == "==") return equal(a, b);
  if (op == "!=") return !equal(a, b);
  if (op == "in") return contains(b, a);
  if (op == "not in") return !contains(b, a);
  const bool sequences = (a.is_list() && b.is_list()) || (a.is_tuple() && b.is_tuple());
  if (op == "<") return less(a, b);
  if (op == ">") return less(b, a);
  const bool numbers = a.number() && b.number();
  if (numbers || sequences) return equal(a, b) || (op == "<=" ? less(a, b) : less(b, a));
  return op == "<=" ? !less(b, a) : !less(a, b);
}

Value get_attribute(const Value& of, const std::string& name) {
  if (of.is_undefined() && !is_internal_of_all(name)) of.fail_undefined();
  if (auto found = visible_attribute(of, name)) return *found;
  if (auto found = item_of(of, Value(name))) return *found;
  return Value::undefined(cat("'", owner(of), "' has no attribute '", name, "'"));
}

Value get_item(const Value& of, const Value& key) {
  if (of.is_undefined()) of.fail_undefined();
  if (auto found = item_of(of, key)) return *found;
  if (!key.is_text()) {
    std::string shown = is_hashable(key) && !key.is_object() ? repr(key) : key.type();
    return Value::undefined(cat(owner(of), " has no element ", shown));
  }
  if (auto found = visible_attribute(of, key.text())) return *found;
  return Value::undefined(cat("'", owner(of), "' has no attribute '", key.text(), "'"));
}

std::pair<size_t, size_t> clamped(const Value& start, const Value& stop, size_t length) {
  const Indices found = indices(start, stop, {}, static_cast<int64_t>(length));
  return {static_cast<size_t>(found.start), static_cast<size_t>(std::max(found.start, found.stop))};
}

Value get_slice(const Value& of, const Value& start, const Value& stop, const Value& step) {
  if (of.is_undefined()) of.fail_undefined();
  if (auto* range = of.as<Range>()) {
    const Indices found = indices(start, stop, step, range->count());
    return Value(std::static_pointer_cast<Object>(std::make_shared<Range>(
        range->start + found.start * range->step, range->start + found.stop * range->step, range->step * found.step)));
  }
  check(of.is_text() || of.is_list() || of.is_tuple(), "'", of.type(), "' object cannot be sliced");
  if (of.is_text() && (step.is_missing() || step.is_none())) {
    const std::string& text = of.text();
    const auto [begin, end] = clamped(start, stop, python_text::length(text));
    const size_t from = python_text::byte_of(text, begin);
    const size_t count = python_text::byte_of(std::string_view(text).substr(from), end - begin);
    return Value(text.substr(from, count), of.is_safe());
  }
  const Values all = all_items(of);
  const Indices found = indices(start, stop, step, static_cast<int64_t>(all.size()));
  Values items;
  for (int64_t at = found.start; found.step > 0 ? at < found.stop : at > found.stop; at += found.step)
    items.push_back(all[static_cast<size_t>(at)]);
  if (of.is_list()) return Value::list(std::move(items));
  if (of.is_tuple()) return Value::tuple(std::move(items));
  std::string out;
  for (const auto& item : items) out += item.text();
  return Value(std::move(out), of.is_safe());
}

double rounded(double value, int64_t digits) {
  if (!std::isfinite(value) || digits > 323) return value;
  check(digits >= 0, "rounding to places before the point is not supported for floats");
  char buffer[1024];
  std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(digits), value);
  return std::strtod(buffer, nullptr);
}

}  // namespace deeplora::jinja
