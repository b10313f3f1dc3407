#include "template/value_tests.h"

#include <map>

#include "template/filters.h"
#include "template/operations.h"
#include "template/python_text.h"

namespace deeplora::jinja {
namespace {

using Test = bool (*)(const Value&, const Values&);

struct Known {
  size_t arguments;  ///< besides the value
  Test test;
};

bool remainder_is(const Value& value, const Value& by, int64_t wanted) {
  return equal(arithmetic(Expr::Kind::modulo, value, by), Value(wanted));
}

template <bool (*Is)(char32_t), bool (*Not)(char32_t)>
bool is_cased(const Value& value, const Values&) {
  const std::string text = to_text(value);
  bool any = false;
  for (size_t i = 0; i < text.size(); i = python_text::next(text, i)) {
    const char32_t code = python_text::code_at(text, i);
    if (Not(code) || python_text::is_title(code)) return false;
    any = any || Is(code);
  }
  return any;
}

bool is_sequence(const Value& value, const Values&) {
  return value.is_text() || value.is_list() || value.is_tuple() || value.is_dict() || value.as<Range>() != nullptr ||
         value.is_undefined() || (value.is_object() && value.object()->as_tuple());
}

const std::map<std::string, Known>& tests() {
  using V = const Value&;
  using A = const Values&;
  static const auto op = [](const char* name) { return name; };
  static const std::map<std::string, Known> known{
      {"odd", {0, [](V v, A) { return remainder_is(v, Value(2), 1); }}},
      {"even", {0, [](V v, A) { return remainder_is(v, Value(2), 0); }}},
      {"divisibleby", {1, [](V v, A a) { return remainder_is(v, a[0], 0); }}},
      {"defined", {0, [](V v, A) { return !v.is_undefined(); }}},
      {"undefined", {0, [](V v, A) { return v.is_undefined(); }}},
      {"filter", {0, [](V v, A) { return hash(v), v.is_text() && is_filter(v.text()); }}},
      {"test", {0, [](V v, A) { return hash(v), v.is_text() && is_test(v.text()); }}},
      {"none", {0, [](V v, A) { return v.is_none(); }}},
      {"boolean", {0, [](V v, A) { return v.is_bool(); }}},
      {"false", {0, [](V v, A) { return v.is_bool() && !v.boolean(); }}},
      {"true", {0, [](V v, A) { return v.is_bool() && v.boolean(); }}},
      {"integer", {0, [](V v, A) { return v.is_int(); }}},
      {"float", {0, [](V v, A) { return v.is_float(); }}},
      {"lower", {0, is_cased<python_text::is_lower, python_text::is_upper>}},
      {"upper", {0, is_cased<python_text::is_upper, python_text::is_lower>}},
      {"string", {0, [](V v, A) { return v.is_text(); }}},
      {"mapping", {0, [](V v, A) { return v.is_dict(); }}},
      {"number", {0, [](V v, A) { return v.number().has_value(); }}},
      {"sequence", {0, is_sequence}},
      {"iterable", {0, [](V v, A) { return is_iterable(v); }}},
      {"callable", {0, [](V v, A) { return is_callable(v); }}},
      {"sameas", {1, [](V v, A a) { return v.same(a[0]); }}},
      {"escaped", {0, [](V v, A) { return v.is_safe(); }}},
      {"in", {1, [](V v, A a) { return contains(a[0], v); }}},
      {"==", {1, [](V v, A a) { return compare(op("=="), v, a[0]); }}},
      {"!=", {1, [](V v, A a) { return compare(op("!="), v, a[0]); }}},
      {">", {1, [](V v, A a) { return compare(op(">"), v, a[0]); }}},
      {">=", {1, [](V v, A a) { return compare(op(">="), v, a[0]); }}},
      {"<", {1, [](V v, A a) { return compare(op("<"), v, a[0]); }}},
      {"<=", {1, [](V v, A a) { return compare(op("<="), v, a[0]); }}}};
  return known;
}

/// Several names for one test.
std::string plain_name(const std::string& name) {
  static const std::map<std::string, std::string> others{{"eq", "=="}, {"equalto", "=="},    {"ne", "!="},
                                                         {"gt", ">"},  {"greaterthan", ">"}, {"ge", ">="},
                                                         {"lt", "<"},  {"lessthan", "<"},    {"le", "<="}};
  const auto found = others.find(name);
  return found == others.end() ? name : found->second;
}

std::vector<std::string> test_names() {
  std::vector<std::string> out;
  for (const auto& entry : tests()) out.push_back(entry.first);
  return out;
}

}  // namespace

bool is_test(const std::string& name) { return tests().contains(plain_name(name)); }

void check_test(const std::string& name, Place place) {
  if (!is_test(name)) fail(at(place), "no test named '", name, "'", did_you_mean(name, test_names()));
}

bool apply_test(const std::string& name, const Value& value, Arguments arguments) {
  const auto found = tests().find(plain_name(name));
  check(found != tests().end(), "no test named '", name, "'", did_you_mean(name, test_names()));
  const Known& known = found->second;
  static const std::map<std::string, std::string> parameters{
      {"divisibleby", "num"}, {"sameas", "other"}, {"in", "seq"}};
  const auto named = parameters.find(name);
  if (named != parameters.end()) return known.test(value, bind(name, std::move(arguments), {{named->second}}));
  check(arguments.positional.size() == known.arguments && arguments.named.empty(), "the test '", name, "' takes ",
        known.arguments, " arguments, found ", arguments.positional.size() + arguments.named.size());
  return known.test(value, arguments.positional);
}

}  // namespace deeplora::jinja
