#include "template/interpreter.h"

#include <algorithm>
#include <map>

#include "template/filters.h"
#include "template/globals.h"
#include "template/operations.h"
#include "template/value_tests.h"

namespace deeplora::jinja {
namespace {

using E = Expr::Kind;
using S = Stmt::Kind;

constexpr int kDeepestRun = 1200;  ///< statements, expressions and calls within each other

/// The variables of one call of a function.
struct Activation {
  Activation(int slots, std::shared_ptr<Activation> around)
      : values(static_cast<size_t>(slots)), outer(std::move(around)) {}
  Values values;
  std::shared_ptr<Activation> outer;
};
using Here = std::shared_ptr<Activation>;

enum class Flow { on, break_loop, continue_loop };

class Interpreter;

struct Macro : Object {
  Macro(Interpreter& runner, const Stmt& source, Here around)
      : interpreter(runner), statement(source), closure(std::move(around)) {}
  std::string type() const override { return "Macro"; }
  bool callable() const override { return true; }
  Value call(Arguments arguments) override;
  std::optional<Value> attribute(const std::string& name) override;
  std::string repr() override {
    return statement.kind == S::macro ? "<Macro '" + statement.name + "'>" : "<Macro anonymous>";
  }
  Interpreter& interpreter;
  const Stmt& statement;
  Here closure;
};

/// The variable `loop`.
struct Loop : Object {
  Loop(Interpreter& runner, const Stmt& source, Value over, Here in, int level)
      : interpreter(runner), statement(source), iterable(std::move(over)), here(std::move(in)), depth0(level) {
    next = jinja::iterate(iterable);
  }
  std::string type() const override { return "LoopContext"; }
  bool callable() const override { return true; }
  Value call(Arguments arguments) override;
  std::optional<Value> attribute(const std::string& name) override;
  std::optional<int64_t> length() override { return size(); }
  std::string repr() override { return cat("<LoopContext ", index0 + 1, "/", size(), ">"); }

  /// The next item becomes the current one.
  bool advance() {
    if (!ahead) ahead = next();
    if (!ahead) return false;
    ++index0;
    before = std::exchange(current, std::move(*ahead));
    ahead.reset();
    return true;
  }
  bool is_last() {
    if (!ahead) ahead = next();
    return !ahead;
  }
  int64_t size() {
    if (count) return *count;
    if (has_length(iterable)) return *(count = jinja::length(iterable));
    Values rest;
    while (auto item = next()) rest.push_back(std::move(*item));
    count = static_cast<int64_t>(rest.size()) + index0 + 1 + (ahead ? 1 : 0);
    next = [rest = std::move(rest), at = size_t{0}]() mutable -> std::optional<Value> {
      if (at >= rest.size()) return std::nullopt;
      return rest[at++];
    };
    return *count;
  }
  /// A function of the loop, which is kept alive by it.
  Value method(const std::string& name, Value (Loop::*body)(Arguments));
  Value cycle(Arguments arguments) {
    check(arguments.named.empty() && !arguments.positional.empty(), "no items for cycling given");
    return arguments.positional[static_cast<size_t>(index0) % arguments.positional.size()];
  }
  Value changed(Arguments arguments) {
    check(arguments.named.empty(), "changed() takes no keyword arguments");
    Value now = Value::tuple(std::move(arguments.positional));
    const bool differs = last_seen.is_missing() || !equal(last_seen, now);
    if (differs) last_seen = std::move(now);
    return differs;
  }

  Interpreter& interpreter;
  const Stmt& statement;
  Value iterable;
  Here here;  ///< where a recursive loop's outer variables are
  int depth0;
  Next next;
  std::optional<Value> ahead;
  std::optional<int64_t> count;
  Value current, before, last_seen;
  int64_t index0 = -1;
};

class Interpreter {
 public:
  Interpreter(const SyntaxTree& tree, const Variables& variables, const Clock& clock)
      : tree_(tree), globals_(global_functions(namespaces_, clock)) {
    for (const auto& [name, value] : variables) globals_[name] = value;
  }
  ~Interpreter() {
    // Macros, loops and namespaces may hold each other.
    for (auto& one : kept_) one->values.clear();
    for (auto& one : namespaces_) one->attributes = {};
    globals_.clear();
  }

  Rendering run() {
    try {
      const Here here = activation(tree_.slots, nullptr);
      out_ = &root_;
      enter(tree_.enter, here);
      body(tree_.body, here);
    } catch (const Error& e) {
      fail(jinja::at(place_), e.what());
    }
    Rendering out;
    out.text = std::move(root_);
    out.generations = std::move(generations_);
    out.hidden_generation = hidden_generation_;
    return out;
  }

  /// Calls a macro's body with its parameters.
  Value call_macro(const Macro& macro, Arguments arguments);
  /// The text of a recursive loop over `items`.
  Value recurse(const Stmt& s, const Here& outer, const Value& items, int level) {
    const Here here = activation(s.slots, outer);
    return captured([&] { iterate_loop(s, here, items, level, outer); });
  }

 private:
  // ---- variables ----

  Here activation(int slots, Here outer) {
    Budget::step(8 + static_cast<size_t>(slots));
    auto out = std::make_shared<Activation>(slots, std::move(outer));
    kept_.push_back(out);
    return out;
  }
  /// Forgets an activation that nothing refers to any more.
  void leave(const Here& here) {
    if (!kept_.empty() && kept_.back() == here && here.use_count() == 2) kept_.pop_back();
  }
  static Value& at(Slot slot, const Here& here) {
    Activation* one = here.get();
    for (int i = 0; i < slot.up; ++i) one = one->outer.get();
    return one->values[static_cast<size_t>(slot.index)];
  }
  Value resolved(const std::string& name) const {
    for (const auto* scope : {block_variables_, &exported_, &globals_})
      if (scope)
        if (const auto found = scope->find(name); found != scope->end()) return found->second;
    return {};
  }
  void enter(const Scope& scope, const Here& here) {
    for (const auto& load : scope.loads) {
      Value value;
      if (load.action == Load::Action::resolve) value = resolved(load.name);
      if (load.action == Load::Action::alias) value = at(load.from, here);
      here->values[static_cast<size_t>(load.index)] = std::move(value);
    }
  }
  static void clear(const Scope& scope, const Here& here) {
    for (const int index : scope.clears) here->values[static_cast<size_t>(index)] = {};
  }

  /// Assigns to names, namespaces and tuples of them. `places`: slots instead of the target's own, in its order.
  void assign(const Expr& target, const Value& value, const Here& here,
              const std::vector<std::pair<std::string, Slot>>* places = nullptr, size_t* next_place = nullptr) {
    if (target.kind == E::name) {
      at(places ? (*places)[(*next_place)++].second : target.slot, here) = value;
      return;
    }
    if (target.kind == E::namespace_attribute) {
      namespace_of(target, here).set(target.attribute, value);
      return;
    }
    Values items;
    const Next next = iterate(value);
    while (items.size() <= target.parts.size()) {
      auto item = next();
      if (!item) break;
      items.push_back(std::move(*item));
    }
    check(items.size() <= target.parts.size(), "too many values to unpack (expected ", target.parts.size(), ")");
    check(items.size() == target.parts.size(), "not enough values to unpack (expected ", target.parts.size(), ", got ",
          items.size(), ")");
    for (size_t i = 0; i < items.size(); ++i) assign(*target.parts[i], items[i], here, places, next_place);
  }
  static Namespace& namespace_of(const Expr& target, const Here& here) {
    auto* space = at(target.slot, here).as<Namespace>();
    check(space != nullptr, "cannot assign attribute on non-namespace object");
    return *space;
  }
  static void check_namespaces(const Expr& target, const Here& here) {
    if (target.kind == E::namespace_attribute) namespace_of(target, here);
    for (const auto& part : target.parts) check_namespaces(*part, here);
  }

  // ---- depth and output ----

  struct Deeper {
    explicit Deeper(Interpreter& interpreter) : depth(interpreter.depth_) {
      check(++depth <= kDeepestRun, "the template calls itself deeper than ", kDeepestRun, " levels");
      Budget::step();
    }
    ~Deeper() { --depth; }
    int& depth;
  };

  template <class Run>
  Value captured(Run run) {
    std::string text;
    std::string* outer = std::exchange(out_, &text);
    struct Restore {
      std::string*& place;
      std::string* value;
      ~Restore() { place = value; }
    } restore{out_, outer};
    run();
    return Value(std::move(text));
  }
  void write(const std::string& text) {
    Budget::text(text.size());
    check(out_->size() + text.size() <= Budget::kLongestText, "the template writes more than ", Budget::kLongestText,
          " bytes");
    *out_ += text;
  }
  void write_text(const Value& value) {
    check(value.is_text(), "sequence item: expected str instance, ", value.type(), " found");
    write(value.text());
  }

  // ---- statements ----

  Flow body(const Body& statements, const Here& here) {
    for (const auto& one : statements)
      if (const Flow flow = statement(*one, here); flow != Flow::on) return flow;
    return Flow::on;
  }

  Flow statement(const Stmt& s, const Here& here) {
    const Deeper deeper(*this);
    place_ = s.place;
    switch (s.kind) {
      case S::output:
        for (const auto& part : s.parts)
          write(part->kind == E::constant && part->value.is_text() ? part->value.text() : to_text(eval(*part, here)));
        return Flow::on;
      case S::set: {
        check_namespaces(*s.parts[0], here);
        const Value value = eval(*s.parts[1], here);
        assign(*s.parts[0], value, here);
        return exported(s, here);
      }
      case S::set_block: return set_block(s, here);
      case S::filter_block: return filter_block(s, here);
      case S::with: return with(s, here);
      case S::scope: {
        enter(s.enter, here);
        const Flow flow = body(s.bodies[0], here);
        clear(s.enter, here);
        return flow;
      }
      case S::branch:
        for (size_t i = 0; i < s.parts.size(); ++i)
          if (truth(eval(*s.parts[i], here))) return body(s.bodies[i], here);
        return s.bodies.size() > s.parts.size() ? body(s.bodies.back(), here) : Flow::on;
      case S::loop:
        if (s.recursive) write_text(recurse(s, here, eval(*s.parts[1], here), 0));
        else return iterate_loop(s, here, eval(*s.parts[1], here), 0, here);
        return Flow::on;
      case S::macro:
        at(s.self, here) = Value(std::static_pointer_cast<Object>(std::make_shared<Macro>(*this, s, here)));
        return exported(s, here);
      case S::call_block: call_block(s, here); return Flow::on;
      case S::block: run_block(s, here); return Flow::on;
      case S::break_loop: return Flow::break_loop;
      case S::continue_loop: return Flow::continue_loop;
      case S::refused: return Flow::on;
    }
    return Flow::on;
  }

  Flow exported(const Stmt& s, const Here& here) {
    for (const auto& [name, slot] : s.exported) exported_[name] = at(slot, here);
    return Flow::on;
  }

  Flow set_block(const Stmt& s, const Here& here) {
    enter(s.enter, here);
    Flow flow = Flow::on;
    Value text = captured([&] { flow = body(s.bodies[0], here); });
    if (flow != Flow::on) return flow;
    if (s.parts[1]) text = eval_filter(*s.parts[1], here, &text);
    assign(*s.parts[0], text, here);
    clear(s.enter, here);
    return exported(s, here);
  }

  Flow filter_block(const Stmt& s, const Here& here) {
    enter(s.enter, here);
    Flow flow = Flow::on;
    const Value text = captured([&] { flow = body(s.bodies[0], here); });
    if (flow != Flow::on) return flow;
    write_text(eval_filter(*s.parts[0], here, &text));
    clear(s.enter, here);
    return Flow::on;
  }

  Flow with(const Stmt& s, const Here& here) {
    enter(s.enter, here);
    for (size_t i = 0; i < s.parts.size(); ++i) assign(*s.parts[i], eval(*s.values[i], here), here);
    const Flow flow = body(s.bodies[0], here);
    clear(s.enter, here);
    return flow;
  }

  /// What a loop with a test goes over: the items that pass, tested when they are asked for.
  Value tested(const Stmt& s, const Here& outer, const Value& items) {
    if (!s.parts[2]) return items;
    const Here here = activation(s.test_slots, outer);
    const auto next = std::make_shared<Next>();
    return make_iterator(
        [this, &s, here, items, next]() -> std::optional<Value> {
          if (!*next) {
            enter(s.test_scope, here);
            *next = iterate(items);
          }
          while (auto item = (*next)()) {
            size_t place = 0;
            assign(*s.parts[0], *item, here, &s.visible, &place);
            if (truth(eval(*s.parts[2], here))) return item;
          }
          return std::nullopt;
        },
        items.depth());
  }

  Flow iterate_loop(const Stmt& s, const Here& here, const Value& items, int level, const Here& outer) {
    const auto loop = std::make_shared<Loop>(*this, s, tested(s, outer, items), outer, level);
    bool empty = true;
    Flow result = Flow::on;
    while (loop->advance()) {
      place_ = s.place;
      assign(*s.parts[0], loop->current, here);
      if (s.loop_slot >= 0)
        here->values[static_cast<size_t>(s.loop_slot)] = Value(std::static_pointer_cast<Object>(loop));
      enter(s.enter, here);
      const Flow flow = body(s.bodies[0], here);
      if (flow == Flow::break_loop) break;
      if (flow == Flow::on) empty = false;  // `continue` leaves the mark, as in Jinja
    }
    if (!s.recursive || !s.bodies[1].empty()) clear(s.enter, here);
    if (empty && !s.bodies[1].empty()) {
      enter(s.else_scope, here);
      result = body(s.bodies[1], here);
      clear(s.else_scope, here);
    }
    return result;
  }

  void call_block(const Stmt& s, const Here& here) {
    const Value caller(std::static_pointer_cast<Object>(std::make_shared<Macro>(*this, s, here)));
    if (s.parts[0]->kind == E::mark_generation) {
      const size_t begin = root_.size();
      const bool hidden = out_ != &root_;
      const Value text = call(caller, {});
      if (hidden) hidden_generation_ = true;
      else generations_.emplace_back(begin, begin + text.text().size());
      write_text(text);
      return;
    }
    const Expr& expr = *s.parts[0];
    const Value function = eval(*expr.parts[0], here);
    Arguments given = arguments(expr.arguments, here);
    for (const auto& [name, value] : given.named)
      check(name != "caller", "got multiple values for keyword argument 'caller'");
    given.named.emplace_back("caller", caller);
    place_ = s.place;
    write_text(call(function, std::move(given)));
  }

  void run_block(const Stmt& s, const Here& here) {
    const auto found = std::find_if(tree_.blocks.begin(), tree_.blocks.end(),
                                    [&](const auto& block) { return block.first == s.name; });
    std::map<std::string, Value> seen;
    const auto* outer = block_variables_;
    if (s.scoped) {
      if (outer) seen = *outer;
      for (const auto& [name, slot] : s.visible)
        if (const Value& value = at(slot, here); !value.is_missing()) seen[name] = value;
      block_variables_ = &seen;
    }
    struct Restore {
      const std::map<std::string, Value>*& place;
      const std::map<std::string, Value>* value;
      ~Restore() { place = value; }
    } restore{block_variables_, outer};
    const Here own = activation(found->second.slots, nullptr);
    enter(found->second.enter, own);
    body(found->second.statement->bodies[0], own);
  }

  // ---- expressions ----

  Arguments arguments(const CallArguments& written, const Here& here) {
    Arguments out;
    for (const auto& one : written.positional) out.positional.push_back(eval(*one, here));
    for (const auto& [name, one] : written.named) out.named.emplace_back(name, eval(*one, here));
    if (written.list)
      for (auto& item : all_items(eval(*written.list, here))) out.positional.push_back(std::move(item));
    if (written.dict) {
      const Value more = eval(*written.dict, here);
      if (more.is_undefined()) more.fail_undefined();
      check(more.is_dict(), "argument after ** must be a mapping, not ", more.type());
      for (const auto& [name, value] : more.dict().entries()) {
        check(name.is_text(), "keywords must be strings");
        for (const auto& other : out.named)
          check(other.first != name.text(), "got multiple values for keyword argument '", name.text(), "'");
        out.named.emplace_back(name.text(), value);
      }
    }
    return out;
  }

  Value eval_filter(const Expr& e, const Here& here, const Value* input) {
    const Value value =
        e.parts[0] ? (e.parts[0]->kind == E::filter ? eval_filter(*e.parts[0], here, input) : eval(*e.parts[0], here))
                   : *input;
    Arguments given = arguments(e.arguments, here);
    place_ = e.place;
    return apply_filter(e.name, value, std::move(given));
  }

  Value eval(const Expr& e, const Here& here) {
    const Deeper deeper(*this);
    switch (e.kind) {
      case E::constant: return e.value;
      case E::name: {
        const Value& value = at(e.slot, here);
        return value.is_missing() ? Value::undefined(cat("'", e.name, "' is undefined")) : value;
      }
      case E::tuple: return Value::tuple(several(e.parts, here));
      case E::list: return Value::list(several(e.parts, here));
      case E::dict: return dict(e, here);
      case E::attribute: {
        const Value of = eval(*e.parts[0], here);
        place_ = e.place;
        return get_attribute(of, e.name);
      }
      case E::item: return item(e, here);
      case E::call: {
        const Value function = eval(*e.parts[0], here);
        Arguments given = arguments(e.arguments, here);
        place_ = e.place;
        return call(function, std::move(given));
      }
      case E::filter: return eval_filter(e, here, nullptr);
      case E::test: {
        const Value value = eval(*e.parts[0], here);
        Arguments given = arguments(e.arguments, here);
        place_ = e.place;
        return apply_test(e.name, value, std::move(given));
      }
      case E::both: {
        Value left = eval(*e.parts[0], here);
        return truth(left) ? eval(*e.parts[1], here) : left;
      }
      case E::either: {
        Value left = eval(*e.parts[0], here);
        return truth(left) ? left : eval(*e.parts[1], here);
      }
      case E::conditional:
        if (truth(eval(*e.parts[0], here))) return eval(*e.parts[1], here);
        if (e.parts[2]) return eval(*e.parts[2], here);
        return Value::undefined(cat("the inline if-expression on line ", e.place.line,
                                    " evaluated to false and no else section was defined."));
      default: return operation(e, here);
    }
  }

  Value operation(const Expr& e, const Here& here) {
    if (e.kind == E::concat) {
      std::string text;
      for (const auto& part : e.parts) text += to_text(eval(*part, here));
      return text;
    }
    if (e.kind == E::compare) return comparison(e, here);
    const Value left = eval(*e.parts[0], here);
    if (e.kind == E::negation) return !truth(left);
    const Value right = e.parts.size() > 1 ? eval(*e.parts[1], here) : Value();
    place_ = e.place;
    if (e.kind == E::negative) return negative(left);
    if (e.kind == E::positive) return positive(left);
    return arithmetic(e.kind, left, right);
  }

  Value comparison(const Expr& e, const Here& here) {
    Value left = eval(*e.parts[0], here);
    for (size_t i = 0; i < e.operators.size(); ++i) {
      Value right = eval(*e.parts[i + 1], here);
      place_ = e.place;
      if (!compare(e.operators[i], left, right)) return false;
      left = std::move(right);
    }
    return true;
  }

  Values several(const std::vector<ExprPtr>& parts, const Here& here) {
    Values out;
    for (const auto& part : parts) out.push_back(eval(*part, here));
    return out;
  }

  Value dict(const Expr& e, const Here& here) {
    Dict out;
    for (size_t i = 0; i + 1 < e.parts.size(); i += 2) {
      const Value key = eval(*e.parts[i], here);
      out.set(key, eval(*e.parts[i + 1], here));
    }
    return out;
  }

  Value item(const Expr& e, const Here& here) {
    const Value of = eval(*e.parts[0], here);
    const Expr& key = *e.parts[1];
    if (key.kind != E::slice) {
      const Value wanted = eval(key, here);
      place_ = e.place;
      return get_item(of, wanted);
    }
    Value bounds[3];
    for (size_t i = 0; i < 3; ++i)
      if (key.parts[i]) bounds[i] = eval(*key.parts[i], here);
    place_ = e.place;
    return get_slice(of, bounds[0], bounds[1], bounds[2]);
  }

  const SyntaxTree& tree_;
  Namespaces namespaces_;
  std::map<std::string, Value> globals_, exported_;
  const std::map<std::string, Value>* block_variables_ = nullptr;
  std::vector<Here> kept_;
  std::string root_;
  std::string* out_ = &root_;
  std::vector<std::pair<size_t, size_t>> generations_;
  bool hidden_generation_ = false;
  int depth_ = 0;
  Place place_;
};

Value Macro::call(Arguments arguments) { return interpreter.call_macro(*this, std::move(arguments)); }

std::optional<Value> Macro::attribute(const std::string& attribute) {
  if (attribute == "name") return statement.kind == S::macro ? Value(statement.name) : Value(Value::None{});
  if (attribute == "arguments") {
    Values names;
    for (const auto& parameter : statement.values) names.emplace_back(parameter->name);
    return Value::tuple(std::move(names));
  }
  if (attribute == "catch_kwargs") return Value(statement.takes_named);
  if (attribute == "catch_varargs") return Value(statement.takes_positional);
  if (attribute == "caller") return Value(statement.takes_caller);
  return std::nullopt;
}

Value Interpreter::call_macro(const Macro& macro, Arguments given) {
  const Deeper deeper(*this);
  const Stmt& s = macro.statement;
  const std::string name = s.kind == S::macro ? s.name : "anonymous";
  const size_t count = s.values.size();
  const Here here = activation(s.slots, macro.closure);
  const auto take = [&](const std::string& wanted) {
    Value out;
    for (auto one = given.named.begin(); one != given.named.end(); ++one)
      if (one->first == wanted) {
        out = std::move(one->second);
        given.named.erase(one);
        break;
      }
    return out;
  };
  Values values(given.positional.begin(),
                given.positional.begin() + static_cast<std::ptrdiff_t>(std::min(count, given.positional.size())));
  bool explicit_caller = false;
  for (size_t i = 0; i < count; ++i) explicit_caller = explicit_caller || s.values[i]->name == "caller";
  while (values.size() < count) values.push_back(take(s.values[values.size()]->name));
  Value caller;
  if (s.takes_caller && !explicit_caller) {
    caller = take("caller");
    if (caller.is_missing() || caller.is_none()) caller = Value::undefined("No caller defined");
  }
  if (!s.takes_named && !given.named.empty())
    fail("macro '", name, "' takes no keyword argument '", given.named.front().first, "'");
  check(s.takes_positional || given.positional.size() <= count, "macro '", name, "' takes not more than ", count,
        " argument(s)");

  const Place called = place_;
  Value out = captured([&] {
    enter(s.enter, here);
    for (size_t i = 0; i < count; ++i) at(s.values[i]->slot, here) = values[i];
    if (s.caller_slot >= 0) here->values[static_cast<size_t>(s.caller_slot)] = caller;
    if (s.named_slot >= 0) {
      Dict dict;
      for (const auto& [key, value] : given.named) dict.set(Value(key), value);
      here->values[static_cast<size_t>(s.named_slot)] = Value(std::move(dict));
    }
    if (s.positional_slot >= 0) {
      const size_t from = std::min(count, given.positional.size());
      here->values[static_cast<size_t>(s.positional_slot)] =
          Value::tuple(Values(given.positional.begin() + static_cast<std::ptrdiff_t>(from), given.positional.end()));
    }
    for (size_t i = 0; i < count; ++i) {
      Value& place = at(s.values[i]->slot, here);
      if (!place.is_missing()) continue;
      const size_t first_default = count - s.defaults.size();
      Value fallback = i >= first_default
                           ? eval(*s.defaults[i - first_default], here)
                           : Value::undefined(cat("parameter '", s.values[i]->name, "' was not provided"));
      at(s.values[i]->slot, here) = std::move(fallback);
    }
    body(s.bodies[0], here);
  });
  place_ = called;
  leave(here);
  return out;
}

Value Loop::call(Arguments arguments) {
  const auto given = bind("loop", std::move(arguments), {{"iterable"}});
  check(statement.recursive, "The loop must have the 'recursive' marker to be called recursively.");
  return interpreter.recurse(statement, here, given[0], depth0 + 1);
}

Value Loop::method(const std::string& name, Value (Loop::*body)(Arguments)) {
  return make_function(name, [this, body, keep = shared_from_this()](Arguments arguments) {
    return (this->*body)(std::move(arguments));
  });
}

std::optional<Value> Loop::attribute(const std::string& name) {
  if (name == "index") return Value(index0 + 1);
  if (name == "index0") return Value(index0);
  if (name == "first") return Value(index0 == 0);
  if (name == "last") return Value(is_last());
  if (name == "length") return Value(size());
  if (name == "revindex") return Value(size() - index0);
  if (name == "revindex0") return Value(size() - index0 - 1);
  if (name == "depth") return Value(depth0 + 1);
  if (name == "depth0") return Value(depth0);
  if (name == "previtem") return index0 == 0 ? Value::undefined("there is no previous item") : before;
  if (name == "nextitem") return is_last() ? Value::undefined("there is no next item") : *ahead;
  if (name == "cycle") return method(name, &Loop::cycle);
  if (name == "changed") return method(name, &Loop::changed);
  return std::nullopt;
}

}  // namespace

Rendering run_template(const SyntaxTree& tree, const Variables& variables, const Clock& clock) {
  const Budget budget;
  return Interpreter(tree, variables, clock).run();
}

}  // namespace deeplora::jinja
