#include "template/scopes.h"

#include <functional>
#include <list>
#include <map>
#include <set>

#include "template/filters.h"
#include "template/value_tests.h"

namespace deeplora::jinja {
namespace {

using E = Expr::Kind;
using S = Stmt::Kind;

/// What runs with variables of its own: the template, a macro, a recursive loop, a loop's test.
struct FunctionScope {
  FunctionScope* outer = nullptr;
  std::map<std::string, int> slots;
  int slot(const std::string& identifier) {
    return slots.emplace(identifier, static_cast<int>(slots.size())).first->second;
  }
};

/// The variables of one scope. Scopes of one level within a function share the place of variables of one name.
struct Symbols {
  enum class Origin { parameter, resolve, alias, nothing };
  struct Source {
    Origin origin;
    const Symbols* from = nullptr;  ///< alias
  };
  Symbols(Symbols* around, FunctionScope* in) : parent(around), function(in), level(around ? around->level + 1 : 0) {}

  const Symbols* find(const std::string& name) const {
    for (const Symbols* one = this; one; one = one->parent)
      if (one->names.contains(name)) return one;
    return nullptr;
  }
  std::string identifier(const std::string& name) const { return std::to_string(level) + name; }
  void define(const std::string& name, Source source) {
    names.insert(name);
    sources[name] = source;
  }
  void store(const std::string& name) {
    stores.insert(name);
    if (names.contains(name)) return;
    const Symbols* outer = parent ? parent->find(name) : nullptr;
    define(name, outer ? Source{Origin::alias, outer} : Source{Origin::nothing});
  }
  void declare(const std::string& name) {
    stores.insert(name);
    define(name, {Origin::parameter});
  }
  void load(const std::string& name) {
    if (!find(name)) define(name, {Origin::resolve});
  }
  /// After `if`: what only some branches assign to must have a value before.
  void merge(const std::vector<Symbols>& branches) {
    std::set<std::string> fresh;
    for (const auto& branch : branches) fresh.insert(branch.stores.begin(), branch.stores.end());
    for (const auto& name : stores) fresh.erase(name);
    for (const auto& branch : branches) {
      names.insert(branch.names.begin(), branch.names.end());
      for (const auto& [name, source] : branch.sources) sources[name] = source;
      stores.insert(branch.stores.begin(), branch.stores.end());
    }
    for (const auto& name : fresh) {
      const Symbols* outer = parent ? parent->find(name) : nullptr;
      sources[name] = outer ? Source{Origin::alias, outer} : Source{Origin::resolve};
    }
  }

  Symbols* parent;
  FunctionScope* function;
  int level;
  std::set<std::string> names, stores;
  std::map<std::string, Source> sources;
};

void visit_parts(const Expr& expr, const std::function<void(const Expr&)>& visit) {
  const auto one = [&](const ExprPtr& part) {
    if (part) visit(*part);
  };
  for (const auto& part : expr.parts) one(part);
  for (const auto& part : expr.arguments.positional) one(part);
  for (const auto& part : expr.arguments.named) one(part.second);
  one(expr.arguments.list);
  one(expr.arguments.dict);
}

/// Which names a scope reads and assigns to, without the scopes in it.
class Analysis {
 public:
  explicit Analysis(Symbols& symbols) : symbols_(&symbols) {}

  void expr(const Expr& expr, bool as_parameter = false) {
    if (expr.kind == E::name) {
      if (expr.stored && (as_parameter || expr.parameter)) symbols_->declare(expr.name);
      else if (expr.stored) symbols_->store(expr.name);
      else symbols_->load(expr.name);
    } else if (expr.kind == E::namespace_attribute) {
      symbols_->load(expr.name);
    }
    visit_parts(expr, [&](const Expr& part) { this->expr(part, as_parameter); });
  }
  void maybe(const ExprPtr& one) {
    if (one) expr(*one);
  }
  void exprs(const std::vector<ExprPtr>& several) {
    for (const auto& one : several) maybe(one);
  }
  void body(const Body& statements) {
    for (const auto& one : statements) statement(*one);
  }

  void statement(const Stmt& s) {
    switch (s.kind) {
      case S::output: exprs(s.parts); break;
      case S::set:
        expr(*s.parts[1]);
        expr(*s.parts[0]);
        break;
      case S::set_block: expr(*s.parts[0]); break;
      case S::loop: expr(*s.parts[1]); break;
      case S::branch: branch(s); break;
      case S::macro: symbols_->store(s.name); break;
      case S::call_block:
      case S::filter_block: expr(*s.parts[0]); break;
      case S::with: exprs(s.values); break;
      default: break;
    }
  }

 private:
  Symbols in_branch(const std::function<void()>& visit) {
    Symbols* original = symbols_;
    Symbols copy = *original;
    symbols_ = &copy;
    visit();
    symbols_ = original;
    return copy;
  }

  void branch(const Stmt& s) {
    expr(*s.parts[0]);
    const Symbols first = in_branch([&] { body(s.bodies[0]); });
    const Symbols others = in_branch([&] {
      for (size_t i = 1; i < s.parts.size(); ++i) {
        expr(*s.parts[i]);
        const Symbols one = in_branch([&] { body(s.bodies[i]); });
        symbols_->merge({one});
      }
    });
    const Symbols last = in_branch([&] {
      if (s.bodies.size() > s.parts.size()) body(s.bodies.back());
    });
    symbols_->merge({first, others, last});
  }

  Symbols* symbols_;
};

/// Which of `names` are read before anything in these statements assigns to them.
class FreeNames {
 public:
  explicit FreeNames(std::set<std::string> names) : names_(std::move(names)) {}
  std::set<std::string> of(const Body& statements) {
    body(statements);
    return found_;
  }

 private:
  void body(const Body& statements) {
    for (const auto& one : statements) statement(*one);
  }
  void bodies(const Stmt& s) {
    for (const auto& one : s.bodies) body(one);
  }
  void exprs(const std::vector<ExprPtr>& several) {
    for (const auto& one : several)
      if (one) expr(*one);
  }
  void expr(const Expr& e) {
    if (e.kind == E::name) {
      if (!e.stored && names_.contains(e.name)) found_.insert(e.name);
      else names_.erase(e.name);
    }
    visit_parts(e, [&](const Expr& part) { expr(part); });
  }
  void statement(const Stmt& s) {
    if (s.kind == S::block) return;
    if (s.kind == S::loop) {
      expr(*s.parts[0]);
      expr(*s.parts[1]);
      bodies(s);
      if (s.parts[2]) expr(*s.parts[2]);
    } else if (s.kind == S::branch) {
      for (size_t i = 0; i < s.bodies.size(); ++i) {
        if (i < s.parts.size()) expr(*s.parts[i]);
        body(s.bodies[i]);
      }
    } else if (s.kind == S::filter_block) {
      bodies(s);
      exprs(s.parts);
    } else {
      exprs(s.parts);
      exprs(s.values);
      exprs(s.defaults);
      bodies(s);
    }
  }
  std::set<std::string> names_, found_;
};

/// Throws for an assignment to `loop` anywhere in a loop.
void check_loop_is_kept(const Stmt& s) {
  const std::function<void(const Expr&)> look = [&](const Expr& e) {
    check(!(e.kind == E::name && e.stored && !e.parameter && e.name == "loop"), at(e.place),
          "'loop' cannot be assigned to within a loop");
    visit_parts(e, look);
  };
  for (const auto* several : {&s.parts, &s.values, &s.defaults})
    for (const auto& one : *several)
      if (one) look(*one);
  for (const auto& body : s.bodies)
    for (const auto& one : body) check_loop_is_kept(*one);
}

bool holds_scoped_block(const Body& body) {
  for (const auto& s : body) {
    if (s->kind == S::block && s->scoped) return true;
    for (const auto& inner : s->bodies)
      if (holds_scoped_block(inner)) return true;
  }
  return false;
}

struct Frame {
  Symbols* symbols;
  bool toplevel = false;  ///< assignments are seen by blocks
  bool soft = false;      ///< within `if`: an unknown filter is an error only when it runs
  bool in_loop = false;   ///< break and continue may stand here
};

class Resolver {
 public:
  explicit Resolver(SyntaxTree& tree) : tree_(tree) {}

  void run() {
    collect_blocks(tree_.body);
    FunctionScope& function = functions_.emplace_back();
    Symbols& symbols = symbols_.emplace_back(nullptr, &function);
    check(FreeNames({"self"}).of(tree_.body).empty(), "'self' of a template is not supported");
    Analysis(symbols).body(tree_.body);
    Frame frame{.symbols = &symbols, .toplevel = true};
    tree_.enter = entered(symbols, false);
    body(tree_.body, frame);
    tree_.slots = static_cast<int>(function.slots.size());
    for (auto& [name, block] : tree_.blocks) run_block(block);
  }

 private:
  void collect_blocks(const Body& statements) {
    for (const auto& s : statements) {
      if (s->kind == S::block) {
        for (const auto& other : tree_.blocks)
          check(other.first != s->name, at(s->place), "the block '", s->name, "' is defined twice");
        tree_.blocks.emplace_back(s->name, SyntaxTree::Block{s.get()});
      }
      for (const auto& inner : s->bodies) collect_blocks(inner);
    }
  }

  void run_block(SyntaxTree::Block& block) {
    FunctionScope& function = functions_.emplace_back();
    Symbols& symbols = symbols_.emplace_back(nullptr, &function);
    const Body& statements = block.statement->bodies[0];
    check(FreeNames({"self", "super"}).of(statements).empty(), at(block.statement->place),
          "'self' and 'super' in a block are not supported");
    Analysis(symbols).body(statements);
    block.enter = entered(symbols, false);
    body(statements, Frame{.symbols = &symbols});
    block.slots = static_cast<int>(function.slots.size());
  }

  // ---- slots ----

  Slot slot_in(const FunctionScope* here, const Symbols& owner, const std::string& name) const {
    Slot out;
    for (const FunctionScope* one = here; one != owner.function; one = one->outer) ++out.up;
    out.index = owner.function->slot(owner.identifier(name));
    return out;
  }
  Slot slot_of(const Frame& frame, const std::string& name, Place place) const {
    const Symbols* owner = frame.symbols->find(name);
    check(owner != nullptr, at(place), "'", name,
          "' is not known here: a filter behind {% set %} reads only variables that are used elsewhere");
    return slot_in(frame.symbols->function, *owner, name);
  }
  /// `clears`: leaving the scope takes its variables away again.
  static Scope entered(const Symbols& symbols, bool clears) {
    Scope out;
    for (const auto& [name, source] : symbols.sources) {
      const int index = symbols.function->slot(symbols.identifier(name));
      if (clears) out.clears.push_back(index);
      if (source.origin == Symbols::Origin::resolve) out.loads.push_back({Load::Action::resolve, index, name});
      if (source.origin == Symbols::Origin::nothing) out.loads.push_back({Load::Action::nothing, index, name});
      if (source.origin != Symbols::Origin::alias) continue;
      Slot from;
      for (const FunctionScope* one = symbols.function; one != source.from->function; one = one->outer) ++from.up;
      from.index = source.from->function->slot(source.from->identifier(name));
      out.loads.push_back({Load::Action::alias, index, name, from});
    }
    return out;
  }
  Symbols& inner(const Frame& frame, FunctionScope* function) { return symbols_.emplace_back(frame.symbols, function); }
  FunctionScope& function_in(const Frame& frame) {
    FunctionScope& out = functions_.emplace_back();
    out.outer = frame.symbols->function;
    return out;
  }

  // ---- expressions ----

  void expr(Expr& e, Frame frame) {
    if (e.kind == E::name || e.kind == E::namespace_attribute) e.slot = slot_of(frame, e.name, e.place);
    if (e.kind == E::conditional) frame.soft = true;
    if (!frame.soft && e.kind == E::filter) check_filter(e.name, e.place);
    if (!frame.soft && e.kind == E::test) check_test(e.name, e.place);
    visit_parts(e, [&](const Expr& part) { expr(const_cast<Expr&>(part), frame); });
  }
  void maybe(const ExprPtr& one, const Frame& frame) {
    if (one) expr(*one, frame);
  }
  void exprs(const std::vector<ExprPtr>& several, const Frame& frame) {
    for (const auto& one : several) maybe(one, frame);
  }

  // ---- statements ----

  void body(const Body& statements, const Frame& frame) {
    for (const auto& one : statements) statement(*one, frame);
  }

  void statement(Stmt& s, const Frame& frame) {
    switch (s.kind) {
      case S::output: exprs(s.parts, frame); break;
      case S::set:
        exprs(s.parts, frame);
        if (frame.toplevel) exported(*s.parts[0], s);
        break;
      case S::set_block: {
        const Frame block = scoped(s, frame, [&](Analysis& analysis) { analysis.body(s.bodies[0]); });
        body(s.bodies[0], block);
        expr(*s.parts[0], frame);
        maybe(s.parts[1], block);
        if (frame.toplevel) exported(*s.parts[0], s);
        break;
      }
      case S::filter_block: {
        const Frame block = scoped(s, frame, [&](Analysis& analysis) {
          analysis.body(s.bodies[0]);
          analysis.exprs(s.parts);
        });
        body(s.bodies[0], block);
        exprs(s.parts, block);
        break;
      }
      case S::with: {
        const Frame block = scoped(s, frame, [&](Analysis& analysis) {
          analysis.exprs(s.parts);
          analysis.body(s.bodies[0]);
        });
        exprs(s.parts, block);
        exprs(s.values, frame);
        body(s.bodies[0], block);
        break;
      }
      case S::scope:
        body(s.bodies[0], scoped(s, frame, [&](Analysis& analysis) { analysis.body(s.bodies[0]); }));
        break;
      case S::loop: loop(s, frame); break;
      case S::branch: {
        Frame soft = frame;
        soft.soft = true;
        exprs(s.parts, soft);
        for (const auto& one : s.bodies) body(one, soft);
        break;
      }
      case S::macro:
        macro(s, frame);
        s.self = slot_of(frame, s.name, s.place);
        if (frame.toplevel) s.exported.emplace_back(s.name, s.self);
        break;
      case S::call_block:
        macro(s, frame);
        exprs(s.parts, frame);
        break;
      case S::block:
        if (s.scoped) see_all(s, frame);
        break;
      case S::break_loop:
      case S::continue_loop:
        check(frame.in_loop, at(s.place), "{% break %} and {% continue %} belong into a loop");
        break;
      case S::refused: break;
    }
  }

  void exported(const Expr& target, Stmt& s) {
    if (target.kind == E::name) s.exported.emplace_back(target.name, target.slot);
    for (const auto& part : target.parts) exported(*part, s);
  }

  void see_all(Stmt& s, const Frame& frame) {
    std::set<std::string> seen;
    for (const Symbols* one = frame.symbols; one; one = one->parent)
      for (const auto& name : one->stores)
        if (seen.insert(name).second) s.visible.emplace_back(name, slot_of(frame, name, s.place));
  }

  Frame scoped(Stmt& s, const Frame& frame, const std::function<void(Analysis&)>& analyse) {
    Symbols& symbols = inner(frame, frame.symbols->function);
    Analysis analysis(symbols);
    analyse(analysis);
    s.enter = entered(symbols, true);
    return {.symbols = &symbols, .in_loop = frame.in_loop};
  }

  void loop(Stmt& s, const Frame& frame) {
    check_loop_is_kept(s);
    FunctionScope* function = s.recursive ? &function_in(frame) : frame.symbols->function;
    Symbols &own = inner(frame, function), &otherwise = inner(frame, function);
    const bool shown = holds_scoped_block(s.bodies[0]) || holds_scoped_block(s.bodies[1]);
    const bool extended = s.recursive || shown || FreeNames({"loop"}).of(s.bodies[0]).contains("loop");
    if (extended) own.declare("loop");
    Analysis analysis(own);
    analysis.expr(*s.parts[0], true);
    analysis.body(s.bodies[0]);
    Analysis(otherwise).body(s.bodies[1]);
    if (s.parts[2]) test(s, frame);
    expr(*s.parts[1], frame);
    const Frame inside{.symbols = &own, .in_loop = true};
    expr(*s.parts[0], inside);
    s.enter = entered(own, true);
    if (extended) s.loop_slot = function->slot(own.identifier("loop"));
    body(s.bodies[0], inside);
    s.else_scope = entered(otherwise, true);
    body(s.bodies[1], Frame{.symbols = &otherwise, .in_loop = !s.recursive && frame.in_loop});
    if (s.recursive) s.slots = static_cast<int>(function->slots.size());
  }

  /// A loop's `if` runs in a function of its own, with the loop's variables in the same places.
  void test(Stmt& s, const Frame& frame) {
    FunctionScope& function = function_in(frame);
    Symbols& symbols = inner(frame, &function);
    Analysis analysis(symbols);
    analysis.expr(*s.parts[0], true);
    analysis.expr(*s.parts[2]);
    s.test_scope = entered(symbols, false);
    expr(*s.parts[0], Frame{.symbols = &symbols});
    collect_targets(*s.parts[0], s);
    expr(*s.parts[2], Frame{.symbols = &symbols});
    s.test_slots = static_cast<int>(function.slots.size());
  }
  /// The target's places in the test's function, by name in the order of the target.
  static void collect_targets(const Expr& target, Stmt& s) {
    if (target.kind == E::name) s.visible.emplace_back(target.name, target.slot);
    for (const auto& part : target.parts) collect_targets(*part, s);
  }

  void macro(Stmt& s, const Frame& frame) {
    FunctionScope& function = function_in(frame);
    Symbols& symbols = inner(frame, &function);
    Analysis analysis(symbols);
    const auto analyse = [&] {
      analysis.exprs(s.values);
      analysis.exprs(s.defaults);
      analysis.body(s.bodies[0]);
    };
    analyse();
    const auto free = FreeNames({"caller", "kwargs", "varargs"}).of(s.bodies[0]);
    std::set<std::string> own;
    size_t caller = s.values.size();
    for (size_t i = 0; i < s.values.size(); ++i) {
      own.insert(s.values[i]->name);
      if (s.values[i]->name == "caller") caller = i;
    }
    check(own.size() == s.values.size(), at(s.place), "two parameters have the same name");
    s.takes_caller = free.contains("caller");
    if (s.takes_caller && caller < s.values.size())
      check(caller + s.defaults.size() >= s.values.size(), at(s.place), "the parameter 'caller' needs a default");
    const auto special = [&](const char* name, bool& takes, int& slot) {
      if (takes && !own.contains(name)) {
        symbols.declare(name);
        slot = function.slot(symbols.identifier(name));
      }
    };
    special("caller", s.takes_caller, s.caller_slot);
    s.takes_named = free.contains("kwargs") && !own.contains("kwargs");
    special("kwargs", s.takes_named, s.named_slot);
    s.takes_positional = free.contains("varargs") && !own.contains("varargs");
    special("varargs", s.takes_positional, s.positional_slot);
    analyse();
    const Frame inside{.symbols = &symbols};
    s.enter = entered(symbols, false);
    exprs(s.values, inside);
    exprs(s.defaults, inside);
    body(s.bodies[0], inside);
    s.slots = static_cast<int>(function.slots.size());
  }

  SyntaxTree& tree_;
  std::list<FunctionScope> functions_;
  std::list<Symbols> symbols_;
};

}  // namespace

void resolve_scopes(SyntaxTree& tree) { Resolver(tree).run(); }

}  // namespace deeplora::jinja
