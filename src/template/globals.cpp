#include "template/globals.h"

#include "template/operations.h"
#include "template/python_text.h"

namespace deeplora::jinja {
namespace {

constexpr int64_t kLongestRange = 100000;  ///< as Jinja's sandbox has it
constexpr size_t kStepsOfNamespace = 50;   ///< each is kept to the end

Value object(std::shared_ptr<Object> made) { return Value(std::move(made)); }

Value range(Arguments arguments) {
  check(arguments.named.empty(), "range() takes no keyword arguments");
  std::vector<int64_t> given;
  for (const auto& value : arguments.positional) {
    if (value.is_undefined()) value.fail_undefined();
    check(value.integer().has_value(), "'", value.type(), "' object cannot be interpreted as an integer");
    given.push_back(*value.integer());
  }
  check(!given.empty() && given.size() <= 3, "range expected 1 to 3 arguments, got ", given.size());
  if (given.size() == 1) given.insert(given.begin(), 0);
  if (given.size() == 2) given.push_back(1);
  check(given[2] != 0, "range() arg 3 must not be zero");
  auto out = std::make_shared<Range>(given[0], given[1], given[2]);
  check(out->count() <= kLongestRange, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (",
        kLongestRange, ").");
  return object(std::move(out));
}

/// dict(mapping or pairs, name=value, ...).
Dict dict_of(const char* function, Arguments arguments) {
  check(arguments.positional.size() <= 1, function, " expected at most 1 argument, got ", arguments.positional.size());
  Dict out;
  if (!arguments.positional.empty()) {
    const Value& from = arguments.positional[0];
    if (from.is_undefined()) from.fail_undefined();
    if (from.is_dict()) {
      out = from.dict();
    } else {
      const Next next = iterate(from);
      while (const auto pair = next()) {
        const Values parts = all_items(*pair);
        check(parts.size() == 2, "dictionary update sequence element has length ", parts.size(), "; 2 is required");
        out.set(parts[0], parts[1]);
      }
    }
  }
  for (auto& [name, value] : arguments.named) out.set(Value(name), std::move(value));
  return out;
}

struct Joiner : Object {
  explicit Joiner(Value mark) : separator(std::move(mark)) { depth = separator.depth(); }
  std::string type() const override { return "Joiner"; }
  bool callable() const override { return true; }
  Value call(Arguments arguments) override {
    bind("joiner", std::move(arguments), {});
    return std::exchange(used, true) ? separator : Value("");
  }
  std::optional<Value> attribute(const std::string& name) override {
    if (name == "sep") return separator;
    if (name == "used") return Value(used);
    return std::nullopt;
  }
  Value separator;
  bool used = false;
};

struct Cycler : Object {
  explicit Cycler(Values given) : items(std::move(given)) {
    for (const auto& item : items) depth = std::max(depth, item.depth());
  }
  std::string type() const override { return "Cycler"; }
  std::optional<Value> attribute(const std::string& name) override;
  Values items;
  size_t at = 0;
};

std::optional<Value> Cycler::attribute(const std::string& name) {
  if (name == "items") return Value::tuple(items);
  if (name == "pos") return Value(at);
  if (name == "current") return items[at];
  if (name == "next")
    return make_function(name, [this, keep = shared_from_this()](Arguments arguments) {
      bind("next", std::move(arguments), {});
      const Value out = items[at];
      at = (at + 1) % items.size();
      return out;
    });
  if (name == "reset")
    return make_function(name, [this, keep = shared_from_this()](Arguments arguments) -> Value {
      bind("reset", std::move(arguments), {});
      at = 0;
      return Value::None{};
    });
  return std::nullopt;
}

}  // namespace

std::optional<Value> Namespace::attribute(const std::string& name) {
  const Value* found = attributes.find(Value(name));
  return found ? std::optional(*found) : std::nullopt;
}

std::string Namespace::repr() {
  for (const auto& entry : attributes.entries())
    check(entry.second.depth() == 0, "printing a namespace that holds lists or objects is not supported");
  return "<Namespace " + jinja::repr(Value(Dict(attributes))) + ">";
}

void Namespace::set(const std::string& name, Value value) {
  check(!name.starts_with('_'), "Chat templates cannot store underscore-prefixed attributes on a namespace, but got ",
        python_text::repr(name), ". Please rename the attribute.");
  attributes.set(Value(name), std::move(value));
}

std::map<std::string, Value> global_functions(Namespaces& namespaces, const Clock& clock) {
  std::map<std::string, Value> out;
  const auto add = [&](const char* name, Function::Body body) { out[name] = make_function(name, std::move(body)); };
  add("range", range);
  add("dict", [](Arguments arguments) { return Value(dict_of("dict", std::move(arguments))); });
  add("namespace", [&namespaces](Arguments arguments) {
    Budget::step(kStepsOfNamespace);
    auto made = std::make_shared<Namespace>();
    namespaces.push_back(made);
    const Dict given = dict_of("namespace", std::move(arguments));
    for (const auto& [name, value] : given.entries()) {
      check(name.is_text(), "a namespace's names are texts, found ", name.type());
      made->set(name.text(), value);
    }
    return object(std::move(made));
  });
  add("joiner", [](Arguments arguments) {
    return object(std::make_shared<Joiner>(bind("joiner", std::move(arguments), {{"sep", Value(", ")}})[0]));
  });
  add("cycler", [](Arguments arguments) {
    check(arguments.named.empty(), "cycler() takes no keyword arguments");
    check(!arguments.positional.empty(), "at least one item has to be provided");
    return object(std::make_shared<Cycler>(std::move(arguments.positional)));
  });
  add("raise_exception", [](Arguments arguments) -> Value {
    throw Error(to_text(bind("raise_exception", std::move(arguments), {{"message"}})[0]));
  });
  add("lipsum",
      [](Arguments) -> Value { fail("lipsum() is not supported: a template gives the same text at every run"); });
  add("strftime_now", [clock](Arguments arguments) -> Value {
    const Value format = bind("strftime_now", std::move(arguments), {{"format"}})[0];
    check(format.is_text(), "strftime_now(): expected a str, found ", format.type());
    check(static_cast<bool>(clock),
          "strftime_now: the template asks for today's date, which would differ from run to run; "
          "set data.chat_date: YYYY-MM-DD");
    return clock(format.text());
  });
  return out;
}

}  // namespace deeplora::jinja
