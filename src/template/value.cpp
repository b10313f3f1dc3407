#include "template/value.h"

#include <cmath>

#include "template/python_text.h"

namespace deeplora::jinja {
namespace {

thread_local Budget* active = nullptr;

/// Depth of a container around a value.
int around(int depth) {
  check(depth < Budget::kDeepestValue, "values nest deeper than ", Budget::kDeepestValue, " levels");
  return depth + 1;
}

int deepest(const Values& items) {
  int depth = 0;
  for (const auto& item : items) depth = std::max(depth, item.depth());
  return depth;
}

std::shared_ptr<const Sequence> sequence(Values items) {
  Budget::step(items.size());
  const int depth = around(deepest(items));
  return std::make_shared<const Sequence>(Sequence{std::move(items), depth});
}

bool equal_items(const Values& a, const Values& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (!a[i].same(b[i]) && !equal(a[i], b[i])) return false;
  return true;
}

bool equal_dicts(const Dict& a, const Dict& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.find(key);
    if (!other || (!other->same(value) && !equal(value, *other))) return false;
  }
  return true;
}

bool equal_numbers(const Value& a, const Value& b) {
  const auto whole_a = a.integer(), whole_b = b.integer();
  if (whole_a && whole_b) return *whole_a == *whole_b;
  if (!whole_a && !whole_b) return a.real() == b.real();
  const int64_t whole = whole_a ? *whole_a : *whole_b;
  const double real = whole_a ? b.real() : a.real();
  return std::abs(real) < 9.3e18 && real == std::trunc(real) && static_cast<double>(whole) == real &&
         static_cast<int64_t>(real) == whole;
}

std::string joined_repr(const Values& items, const char* open, const char* close) {
  std::string out = open;
  for (size_t i = 0; i < items.size(); ++i) out += (i ? ", " : "") + repr(items[i]);
  return out + close;
}

std::string repr_of_dict(const Dict& dict) {
  std::string out = "{";
  for (const auto& [key, value] : dict.entries()) out += (out.size() > 1 ? ", " : "") + repr(key) + ": " + repr(value);
  return out + "}";
}

}  // namespace

Budget::Budget() : outer_(active) { active = this; }
Budget::~Budget() { active = outer_; }

void Budget::step(size_t count) {
  if (!active) return;
  check(count <= active->left_, "the template does not come to an end within ", kSteps, " steps");
  active->left_ -= count;
}

void Budget::text(size_t bytes) {
  check(bytes <= kLongestText, "the template makes a text longer than ", kLongestText, " bytes");
  step(1 + bytes / kBytesPerStep);
}

Value::Value(std::string text, bool safe) {
  Budget::text(text.size());
  held_ = std::make_shared<const Text>(Text{std::move(text), safe});
}

Value::Value(Dict dict) : held_(std::make_shared<const Dict>(std::move(dict))) {}

Value Value::list(Values items) {
  Value out;
  out.held_ = List{sequence(std::move(items))};
  return out;
}

Value Value::tuple(Values items) {
  Value out;
  out.held_ = Tuple{sequence(std::move(items))};
  return out;
}

Value Value::undefined(std::string why) {
  Value out;
  out.held_ = Undefined{std::make_shared<const std::string>(std::move(why))};
  return out;
}

Value Value::from_json(const nlohmann::ordered_json& json) {
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::boolean: return json.get<bool>();
    case nlohmann::ordered_json::value_t::number_integer: return json.get<int64_t>();
    case nlohmann::ordered_json::value_t::number_unsigned:
      check(json.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX), "the whole number ", json.dump(),
            " is beyond 64 bits");
      return json.get<int64_t>();
    case nlohmann::ordered_json::value_t::number_float: return json.get<double>();
    case nlohmann::ordered_json::value_t::string: return json.get<std::string>();
    case nlohmann::ordered_json::value_t::array: {
      Values items;
      for (const auto& item : json) items.push_back(from_json(item));
      return list(std::move(items));
    }
    case nlohmann::ordered_json::value_t::object: {
      Dict dict;
      for (const auto& [key, value] : json.items()) dict.set(key, from_json(value));
      return dict;
    }
    default: return None{};
  }
}

std::optional<int64_t> Value::integer() const {
  if (is_int()) return std::get<int64_t>(held_);
  if (is_bool()) return boolean() ? 1 : 0;
  return std::nullopt;
}

std::optional<double> Value::number() const {
  if (is_float()) return real();
  if (const auto whole = integer()) return static_cast<double>(*whole);
  return std::nullopt;
}

int Value::depth() const {
  if (is_list()) return std::get<List>(held_).of->depth;
  if (is_tuple()) return std::get<Tuple>(held_).of->depth;
  if (is_dict()) return dict().depth();
  if (is_object()) return object()->depth;
  return 0;
}

std::string Value::type() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (is_text()) return is_safe() ? "Markup" : "str";
  if (is_list()) return "list";
  if (is_tuple()) return "tuple";
  if (is_dict()) return "dict";
  return is_object() ? object()->type() : "missing";
}

void Value::fail_undefined() const { throw Error(*std::get<Undefined>(held_).why); }

const void* Value::address() const {
  if (is_list()) return std::get<List>(held_).of.get();
  if (is_tuple()) return std::get<Tuple>(held_).of.get();
  if (is_dict()) return dict_ptr().get();
  if (is_object()) return object().get();
  return is_undefined() ? std::get<Undefined>(held_).why.get() : nullptr;
}

bool Value::same(const Value& other) const {
  if (held_.index() != other.held_.index()) return false;
  if (is_none() || is_missing()) return true;
  if (is_bool() || is_int() || is_text()) return equal(*this, other);
  if (is_float()) return real() == other.real();
  return address() == other.address();
}

const Value* Dict::find(const Value& key) const {
  const auto found = place(key);
  return found ? &entries_[*found].second : nullptr;
}

std::optional<size_t> Dict::place(const Value& key) const {
  const size_t code = hash(key);
  if (places_.empty()) {
    Budget::step(entries_.size() / 4);
    for (size_t i = 0; i < entries_.size(); ++i)
      if (equal(entries_[i].first, key)) return i;
    return std::nullopt;
  }
  const auto [begin, end] = places_.equal_range(code);
  for (auto at = begin; at != end; ++at)
    if (equal(entries_[at->second].first, key)) return at->second;
  return std::nullopt;
}

void Dict::set(const Value& key, Value value) {
  depth_ = std::max(depth_, around(std::max(key.depth(), value.depth())));
  if (const auto found = place(key)) {
    entries_[*found].second = std::move(value);
    return;
  }
  Budget::step();
  entries_.emplace_back(key, std::move(value));
  if (entries_.size() <= kSmall) return;
  for (size_t i = places_.size(); i < entries_.size(); ++i) places_.emplace(hash(entries_[i].first), i);
}

Value Object::call(Arguments) { fail("'", type(), "' object is not callable"); }
std::string Object::repr() { fail("printing a ", type(), " object is not supported: Python writes its address"); }

Iterator::Iterator(Next items, int below) : next(std::move(items)) { depth = around(below); }

Function::Function(std::string function_name, Body function_body, int below)
    : name(std::move(function_name)), body(std::move(function_body)) {
  depth = around(below);
}

int64_t Range::count() const {
  const auto first = static_cast<__int128>(start), last = static_cast<__int128>(stop),
             stride = static_cast<__int128>(step);
  const __int128 length = stride > 0 ? (last - first + stride - 1) / stride : (first - last - stride - 1) / -stride;
  return length < 0 ? 0 : static_cast<int64_t>(length);
}

std::optional<Value> Range::attribute(const std::string& name) {
  if (name == "start") return Value(start);
  if (name == "stop") return Value(stop);
  if (name == "step") return Value(step);
  if (name == "count" || name == "index")
    return make_function(name, [name, range = *this](Arguments arguments) -> Value {
      const Value wanted = bind(name, std::move(arguments), {{"value"}})[0];
      const auto whole = wanted.number();
      const double place = whole ? (*whole - static_cast<double>(range.start)) / static_cast<double>(range.step) : -1;
      const bool there = place >= 0 && place < static_cast<double>(range.count()) && place == std::trunc(place);
      check(there || name == "count", "the value is not in the range");
      return name == "count" ? Value(there ? 1 : 0) : Value(static_cast<int64_t>(place));
    });
  return std::nullopt;
}

std::optional<Next> Range::iterate() {
  return [at = int64_t{0}, n = count(), *this]() mutable -> std::optional<Value> {
    if (at >= n) return std::nullopt;
    return Value(start + step * at++);
  };
}

std::optional<Value> Range::item(const Value& key) {
  auto at = key.integer();
  if (!at) return std::nullopt;
  if (*at < 0) *at += count();
  if (*at < 0 || *at >= count()) return std::nullopt;
  return Value(start + step * *at);
}

std::string Range::repr() { return cat("range(", start, ", ", stop, step == 1 ? "" : cat(", ", step), ")"); }

bool Range::equals(const Object& other) const {
  const auto* range = dynamic_cast<const Range*>(&other);
  if (!range || range->count() != count()) return false;
  return count() == 0 || (range->start == start && (count() == 1 || range->step == step));
}

DictView::DictView(std::shared_ptr<const Dict> dict, Part which) : of(std::move(dict)), part(which) {
  depth = around(of->depth());
}

std::string DictView::type() const {
  return part == Part::keys ? "dict_keys" : part == Part::values ? "dict_values" : "dict_items";
}

std::optional<Next> DictView::iterate() {
  return [at = size_t{0}, dict = of, which = part]() mutable -> std::optional<Value> {
    if (at >= dict->size()) return std::nullopt;
    const auto& [key, value] = dict->entries()[at++];
    if (which == Part::keys) return key;
    return which == Part::values ? value : Value::tuple({key, value});
  };
}

std::string DictView::repr() {
  return type() + "(" + jinja::repr(Value::list(all_items(Value(std::make_shared<DictView>(of, part))))) + ")";
}

bool DictView::equals(const Object& other) const {
  const auto* view = dynamic_cast<const DictView*>(&other);
  if (view == this) return true;
  if (!view || part == Part::values || view->part == Part::values) return false;
  if (part != view->part) return of->size() == 0 && view->of->size() == 0;
  if (part == Part::items) return equal_dicts(*of, *view->of);
  for (const auto& entry : of->entries())
    if (!view->of->find(entry.first)) return false;
  return of->size() == view->of->size();
}

bool truth(const Value& value) {
  if (value.is_bool()) return value.boolean();
  if (const auto number = value.number()) return *number != 0;
  if (value.is_text()) return !value.text().empty();
  if (value.is_list() || value.is_tuple()) return !value.items().empty();
  if (value.is_dict()) return value.dict().size() > 0;
  if (!value.is_object()) return false;
  const auto length = value.object()->length();
  return !length || *length > 0;
}

bool equal(const Value& a, const Value& b) {
  Budget::step();
  if (a.number() && b.number()) return equal_numbers(a, b);
  if (a.is_text() && b.is_text()) return a.text() == b.text();
  if ((a.is_list() && b.is_list()) || (a.is_tuple() && b.is_tuple())) return equal_items(a.items(), b.items());
  if (a.is_dict() && b.is_dict()) return equal_dicts(a.dict(), b.dict());
  if (a.is_undefined() || a.is_none()) return a.is_undefined() == b.is_undefined() && a.is_none() == b.is_none();
  if (a.is_object() && b.is_object()) return a.object()->equals(*b.object());
  return false;
}

bool less(const Value& a, const Value& b) {
  Budget::step();
  if (a.is_undefined()) a.fail_undefined();
  if (b.is_undefined()) b.fail_undefined();
  if (a.integer() && b.integer()) return *a.integer() < *b.integer();
  if (a.number() && b.number()) {
    const long double left = a.integer() ? static_cast<long double>(*a.integer()) : a.real();
    const long double right = b.integer() ? static_cast<long double>(*b.integer()) : b.real();
    return left < right;
  }
  if (a.is_text() && b.is_text()) return a.text() < b.text();  // the order of UTF-8 is that of code points
  if ((a.is_list() && b.is_list()) || (a.is_tuple() && b.is_tuple())) {
    const auto &left = a.items(), &right = b.items();
    for (size_t i = 0; i < std::min(left.size(), right.size()); ++i)
      if (!left[i].same(right[i]) && !equal(left[i], right[i])) return less(left[i], right[i]);
    return left.size() < right.size();
  }
  fail("'<' not supported between instances of '", a.type(), "' and '", b.type(), "'");
}

size_t hash(const Value& value) {
  Budget::step();
  if (value.is_text()) return std::hash<std::string>()(value.text());
  if (const auto whole = value.integer()) return std::hash<int64_t>()(*whole);
  if (value.is_float()) {
    const double real = value.real();
    if (std::abs(real) < 9e18 && real == std::trunc(real)) return std::hash<int64_t>()(static_cast<int64_t>(real));
    return std::hash<double>()(real);
  }
  if (value.is_none() || value.is_undefined()) return value.is_none() ? 1 : 2;
  if (value.is_tuple()) {
    size_t code = 3;
    for (const auto& item : value.items()) code = code * 1000003 + hash(item);
    return code;
  }
  check(value.is_object() && value.object()->hashable(), "unhashable type: '", value.type(), "'");
  if (const auto* range = value.as<Range>()) return static_cast<size_t>(range->count());
  return std::hash<const void*>()(value.address());
}

std::string to_text(const Value& value) {
  if (value.is_text()) return value.text();
  return value.is_undefined() ? "" : repr(value);
}

std::string repr(const Value& value) {
  Budget::step();
  if (value.is_none()) return "None";
  if (value.is_bool()) return value.boolean() ? "True" : "False";
  if (const auto whole = value.integer()) return std::to_string(*whole);
  if (value.is_float()) return python_text::repr(value.real());
  std::string out;
  if (value.is_text())
    out = value.is_safe() ? "Markup(" + python_text::repr(value.text()) + ")" : python_text::repr(value.text());
  else if (value.is_list()) out = joined_repr(value.items(), "[", "]");
  else if (value.is_tuple()) out = joined_repr(value.items(), "(", value.items().size() == 1 ? ",)" : ")");
  else if (value.is_dict()) out = repr_of_dict(value.dict());
  else if (value.is_object()) out = value.object()->repr();
  else out = "Undefined";
  Budget::text(out.size());
  return out;
}

bool is_iterable(const Value& value) {
  if (value.is_object()) return value.object()->iterate().has_value();
  return value.is_text() || value.is_list() || value.is_tuple() || value.is_dict() || value.is_undefined();
}

Next iterate(const Value& value) {
  if (value.is_list() || value.is_tuple())
    return [value, at = size_t{0}]() mutable -> std::optional<Value> {
      Budget::step();
      if (at >= value.items().size()) return std::nullopt;
      return value.items()[at++];
    };
  if (value.is_text())
    return [value, at = size_t{0}]() mutable -> std::optional<Value> {
      if (at >= value.text().size()) return std::nullopt;
      const size_t begin = at;
      at = python_text::next(value.text(), at);
      return Value(value.text().substr(begin, at - begin));
    };
  if (value.is_undefined()) return []() -> std::optional<Value> { return std::nullopt; };
  if (value.is_dict()) return *DictView(value.dict_ptr(), DictView::Part::keys).iterate();
  if (value.is_object())
    if (auto next = value.object()->iterate())
      return [next = std::move(*next), keep = value]() {
        Budget::step();
        return next();
      };
  fail("'", value.type(), "' object is not iterable");
}

Values all_items(const Value& value) {
  if (value.is_list() || value.is_tuple()) return value.items();
  Values out;
  const Next next = iterate(value);
  while (auto item = next()) out.push_back(std::move(*item));
  return out;
}

bool has_length(const Value& value) {
  return value.is_text() || value.is_list() || value.is_tuple() || value.is_dict() || value.is_undefined() ||
         (value.is_object() && value.object()->length());
}

int64_t length(const Value& value) {
  if (value.is_text()) return static_cast<int64_t>(python_text::length(value.text()));
  if (value.is_list() || value.is_tuple()) return static_cast<int64_t>(value.items().size());
  if (value.is_dict()) return static_cast<int64_t>(value.dict().size());
  if (value.is_undefined()) return 0;
  if (value.is_object())
    if (const auto count = value.object()->length()) return *count;
  fail("object of type '", value.type(), "' has no len()");
}

bool contains(const Value& container, const Value& item) {
  if (container.is_text()) {
    if (item.is_undefined()) fail("'in <string>' requires string as left operand, not Undefined");
    check(item.is_text(), "'in <string>' requires string as left operand, not ", item.type());
    Budget::step(container.text().size() / Budget::kBytesPerStep);
    return container.text().find(item.text()) != std::string::npos;
  }
  if (container.is_dict()) return container.dict().find(item) != nullptr;
  if (const auto* view = container.as<DictView>(); view && view->part == DictView::Part::keys)
    return view->of->find(item) != nullptr;
  check(is_iterable(container), "argument of type '", container.type(), "' is not iterable");
  const Next next = iterate(container);
  while (const auto one = next())
    if (one->same(item) || equal(*one, item)) return true;
  return false;
}

bool is_callable(const Value& value) {
  return value.is_undefined() || (value.is_object() && value.object()->callable());
}

Value call(const Value& function, Arguments arguments) {
  if (function.is_undefined()) function.fail_undefined();
  check(is_callable(function), "'", function.type(), "' object is not callable");
  return function.object()->call(std::move(arguments));
}

Value make_iterator(Next next, int below) {
  return Value(std::static_pointer_cast<Object>(std::make_shared<Iterator>(std::move(next), below)));
}

Value make_function(std::string name, Function::Body body, int below) {
  return Value(std::static_pointer_cast<Object>(std::make_shared<Function>(std::move(name), std::move(body), below)));
}

Values bind(std::string_view function, Arguments arguments, const std::vector<Parameter>& parameters) {
  check(arguments.positional.size() <= parameters.size(), function, "() takes at most ", parameters.size(),
        " arguments, found ", arguments.positional.size());
  Values out = std::move(arguments.positional);
  const size_t given = out.size();
  out.resize(parameters.size());
  for (auto& [name, value] : arguments.named) {
    size_t at = 0;
    while (at < parameters.size() && parameters[at].name != name) ++at;
    check(at < parameters.size(), function, "() got an unexpected keyword argument '", name, "'");
    check(at >= given && out[at].is_missing(), function, "() got multiple values for argument '", name, "'");
    out[at] = std::move(value);
  }
  for (size_t i = given; i < parameters.size(); ++i) {
    if (out[i].is_missing()) out[i] = parameters[i].fallback;
    check(!out[i].is_missing(), function, "() is missing its argument '", parameters[i].name, "'");
  }
  return out;
}

}  // namespace deeplora::jinja
