// Values of templates, with Python's meaning: what is true, equal, in order, how they print. Free of LibTorch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "core/error.h"

namespace deeplora::jinja {

class Value;
class Dict;
struct Object;
using Values = std::vector<Value>;
/// The next item, or nothing at the end.
using Next = std::function<std::optional<Value>()>;

/// How much a template may do. Every step, item and byte is charged, so that no template runs on or fills the memory.
class Budget {
 public:
  static constexpr size_t kSteps = 10'000'000;  ///< of one rendering
  static constexpr size_t kBytesPerStep = 32;   ///< of texts that are made
  static constexpr int kDeepestValue = 100;     ///< lists in lists, iterators of iterators
  static constexpr size_t kLongestText = 1 << 24;

  /// Charges this thread's rendering; nothing outside of one. Throws Error when it is spent.
  static void step(size_t count = 1);
  /// Charges a text of `bytes`.
  static void text(size_t bytes);

  Budget();
  ~Budget();
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

 private:
  size_t left_ = kSteps;
  Budget* outer_;
};

/// A text in UTF-8. `safe` is what the filter `safe` and its like give (Markup): what is joined to it is escaped.
struct Text {
  std::string utf8;
  bool safe = false;
};

/// A list or a tuple; never changed once made.
struct Sequence {
  Values items;
  int depth = 1;
};

/// One value: None, bool, int (64 bits), float, str, list, tuple, dict, undefined, or an object with behaviour of its
/// own.
class Value {
 public:
  struct Missing {};  ///< a variable that nothing was assigned to
  struct None {};
  struct Undefined {
    std::shared_ptr<const std::string> why;  ///< what using it says
  };
  struct List {
    std::shared_ptr<const Sequence> of;
  };
  struct Tuple {
    std::shared_ptr<const Sequence> of;
  };

  Value() = default;  ///< missing
  Value(None none) : held_(none) {}
  Value(bool value) : held_(value) {}
  Value(int64_t value) : held_(value) {}
  Value(int value) : held_(int64_t{value}) {}
  Value(size_t value) : held_(static_cast<int64_t>(value)) {}
  Value(double value) : held_(value) {}
  Value(const char* text) : Value(std::string(text)) {}
  Value(std::string_view text) : Value(std::string(text)) {}
  Value(std::string text, bool safe = false);
  Value(std::shared_ptr<const Dict> dict) : held_(std::move(dict)) {}
  Value(Dict dict);
  Value(std::shared_ptr<Object> object) : held_(std::move(object)) {}
  Value(const void*) = delete;
  static Value list(Values items);
  static Value tuple(Values items);
  static Value undefined(std::string why);
  /// From a row's JSON. Throws Error for whole numbers beyond 64 bits.
  static Value from_json(const nlohmann::ordered_json& json);

  bool is_missing() const { return std::holds_alternative<Missing>(held_); }
  bool is_undefined() const { return std::holds_alternative<Undefined>(held_); }
  bool is_none() const { return std::holds_alternative<None>(held_); }
  bool is_bool() const { return std::holds_alternative<bool>(held_); }
  bool is_int() const { return std::holds_alternative<int64_t>(held_); }
  bool is_float() const { return std::holds_alternative<double>(held_); }
  bool is_text() const { return text_ptr() != nullptr; }
  bool is_safe() const { return is_text() && text_ptr()->safe; }
  bool is_list() const { return std::holds_alternative<List>(held_); }
  bool is_tuple() const { return std::holds_alternative<Tuple>(held_); }
  bool is_dict() const { return std::holds_alternative<std::shared_ptr<const Dict>>(held_); }
  bool is_object() const { return std::holds_alternative<std::shared_ptr<Object>>(held_); }

  bool boolean() const { return std::get<bool>(held_); }
  double real() const { return std::get<double>(held_); }
  const std::string& text() const { return text_ptr()->utf8; }
  const Values& items() const { return is_list() ? std::get<List>(held_).of->items : std::get<Tuple>(held_).of->items; }
  const Dict& dict() const { return *std::get<std::shared_ptr<const Dict>>(held_); }
  const std::shared_ptr<const Dict>& dict_ptr() const { return std::get<std::shared_ptr<const Dict>>(held_); }
  const std::shared_ptr<Object>& object() const { return std::get<std::shared_ptr<Object>>(held_); }
  /// The object as a T, or nullptr.
  template <class T>
  T* as() const {
    return is_object() ? dynamic_cast<T*>(object().get()) : nullptr;
  }
  /// An int or a bool as a number.
  std::optional<int64_t> integer() const;
  /// An int, bool or float.
  std::optional<double> number() const;
  /// Levels of containers in it.
  int depth() const;
  /// Python's name of the type: 'int', 'str', 'Undefined'.
  std::string type() const;
  /// Throws the error that using an undefined value is.
  [[noreturn]] void fail_undefined() const;
  /// True when both are the same object (`is` of Python; numbers and texts by value).
  bool same(const Value& other) const;
  /// For the hash of an object: its address.
  const void* address() const;

 private:
  const Text* text_ptr() const {
    const auto* held = std::get_if<std::shared_ptr<const Text>>(&held_);
    return held ? held->get() : nullptr;
  }
  std::variant<Missing, None, bool, int64_t, double, std::shared_ptr<const Text>, List, Tuple,
               std::shared_ptr<const Dict>, Undefined, std::shared_ptr<Object>>
      held_;
};

/// Keys of any hashable values in the order of their first assignment.
class Dict {
 public:
  using Entry = std::pair<Value, Value>;
  const std::vector<Entry>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }
  /// Null when it is not there. Throws Error for a key that cannot be one (a list).
  const Value* find(const Value& key) const;
  void set(const Value& key, Value value);
  int depth() const { return depth_; }

 private:
  static constexpr size_t kSmall = 12;  ///< up to here a search from the front is faster
  std::optional<size_t> place(const Value& key) const;
  std::vector<Entry> entries_;
  std::unordered_multimap<size_t, size_t> places_;  ///< hash -> entry, once there are many
  int depth_ = 1;
};

/// Arguments of a call.
struct Arguments {
  Values positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// Values with behaviour: iterators, functions, namespaces, loops.
struct Object : std::enable_shared_from_this<Object> {
  virtual ~Object() = default;
  virtual std::string type() const = 0;
  /// An attribute, or nothing.
  virtual std::optional<Value> attribute(const std::string& /*name*/) { return std::nullopt; }
  virtual bool callable() const { return false; }
  virtual Value call(Arguments arguments);
  /// The items, or nothing for what is not iterable. Valid while the object is.
  virtual std::optional<Next> iterate() { return std::nullopt; }
  virtual std::optional<int64_t> length() { return std::nullopt; }
  /// object[key]; nothing where it has no items or not this one.
  virtual std::optional<Value> item(const Value& /*key*/) { return std::nullopt; }
  virtual bool subscriptable() const { return false; }
  /// Throws Error for what prints as an address in Python, which is another at every run.
  virtual std::string repr();
  virtual bool equals(const Object& other) const { return this == &other; }
  virtual bool hashable() const { return true; }
  /// The tuple that the object is besides, or nothing.
  virtual std::optional<Value> as_tuple() { return std::nullopt; }
  int depth = 1;
};

/// Items that are made when they are asked for, once.
struct Iterator : Object {
  Iterator(Next next, int below);
  std::string type() const override { return "generator"; }
  /// What is left; all that iterate over it share the place.
  std::optional<Next> iterate() override {
    return [this] { return next(); };
  }
  Next next;
};

/// range(...).
struct Range : Object {
  Range(int64_t begin, int64_t end, int64_t stride) : start(begin), stop(end), step(stride) {}
  std::string type() const override { return "range"; }
  std::optional<Value> attribute(const std::string& name) override;
  std::optional<Next> iterate() override;
  std::optional<int64_t> length() override { return count(); }
  std::optional<Value> item(const Value& key) override;
  bool subscriptable() const override { return true; }
  std::string repr() override;
  bool equals(const Object& other) const override;
  int64_t count() const;
  int64_t start, stop, step;
};

/// keys(), values() or items() of a dict.
struct DictView : Object {
  enum class Part { keys, values, items };
  DictView(std::shared_ptr<const Dict> dict, Part part);
  std::string type() const override;
  std::optional<Next> iterate() override;
  std::optional<int64_t> length() override { return static_cast<int64_t>(of->size()); }
  std::string repr() override;
  bool equals(const Object& other) const override;
  bool hashable() const override { return part == Part::values; }
  std::shared_ptr<const Dict> of;
  Part part;
};

/// A built-in function or method.
struct Function : Object {
  using Body = std::function<Value(Arguments)>;
  Function(std::string function_name, Body function_body, int below = 0);
  std::string type() const override { return "builtin_function_or_method"; }
  bool callable() const override { return true; }
  Value call(Arguments arguments) override { return body(std::move(arguments)); }
  std::string name;
  Body body;
};

/// bool(value).
bool truth(const Value& value);
/// a == b.
bool equal(const Value& a, const Value& b);
/// a < b. Throws Error for values without an order.
bool less(const Value& a, const Value& b);
size_t hash(const Value& value);
/// str(value) and repr(value).
std::string to_text(const Value& value);
std::string repr(const Value& value);
/// The items of a value. Throws Error for what is not iterable.
Next iterate(const Value& value);
bool is_iterable(const Value& value);
Values all_items(const Value& value);
/// len(value). Throws Error for what has none.
int64_t length(const Value& value);
bool has_length(const Value& value);
/// item in container.
bool contains(const Value& container, const Value& item);
bool is_callable(const Value& value);
Value call(const Value& function, Arguments arguments);

Value make_iterator(Next next, int below);
Value make_function(std::string name, Function::Body body, int below = 0);

/// A parameter of a built-in function; without a fallback it must be given.
struct Parameter {
  std::string name;
  Value fallback{};
};
/// Values by parameter, in order. Throws Error for too many, unknown, doubled and missing ones.
Values bind(std::string_view function, Arguments arguments, const std::vector<Parameter>& parameters);

}  // namespace deeplora::jinja
