// What Python's operators, subscripts and attributes do with values, within the limits of Jinja's immutable sandbox.
#pragma once

#include "template/syntax.h"
#include "template/value.h"

namespace deeplora::jinja {

/// a + b, a - b, ...; `kind` is the expression's. Throws Error as Python does, and beyond 64 bits.
Value arithmetic(Expr::Kind kind, const Value& a, const Value& b);
Value negative(const Value& value);
Value positive(const Value& value);
/// ==, !=, <, <=, >, >=, in, not in.
bool compare(const std::string& op, const Value& a, const Value& b);
/// value.name: an attribute, else the item of this name, else undefined.
Value get_attribute(const Value& of, const std::string& name);
/// value[key]: an item, else the attribute of this name, else undefined.
Value get_item(const Value& of, const Value& key);
/// value[start:stop:step]; missing or None where a part is left out.
Value get_slice(const Value& of, const Value& start, const Value& stop, const Value& step);
/// Python's round() of a float to `digits` >= 0 places.
double rounded(double value, int64_t digits);
/// The places [begin, end) of a slice without step of `length` items.
std::pair<size_t, size_t> clamped(const Value& start, const Value& stop, size_t length);

/// An attribute that values of built-in types have, as methods.cpp lists them; nothing where there is none.
std::optional<Value> builtin_attribute(const Value& of, const std::string& name);
bool is_hashable(const Value& value);

/// format % values.
Value percent_format(const Value& format, const Value& values);
/// str.format.
std::string brace_format(const std::string& format, const Arguments& arguments);
/// json.dumps.
struct JsonOptions {
  bool ascii = false, sorted = false;
  std::optional<std::string> indent{};
  std::string item_separator = ", ", key_separator = ": ";
};
std::string to_json(const Value& value, const JsonOptions& options);

}  // namespace deeplora::jinja
