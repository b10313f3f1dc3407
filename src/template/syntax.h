// The syntax tree of a template.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "template/value.h"

namespace deeplora::jinja {

/// A place in the template's text, both from 1; columns count code points.
struct Place {
  size_t line = 1, column = 1;
};

/// "line 3, column 7: ".
std::string at(Place place);

/// Where a variable lives: slot `index` of the function `up` levels out; resolved by scopes.
struct Slot {
  int up = 0;
  int index = -1;
};

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;
struct Stmt;
using Body = std::vector<std::unique_ptr<Stmt>>;

/// Arguments as they are written: f(a, b=c, *d, **e).
struct CallArguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr list, dict;
};

struct Expr {
  enum class Kind {
    constant,
    name,
    namespace_attribute,
    tuple,
    list,
    dict,  // dict: parts are key, value, key, value, ...
    attribute,
    item,
    slice,  // item: parts[1] is the key or a slice; slice: three parts, may be null
    call,
    filter,
    test,  // parts[0]: function, input (null in a filter block), value
    negative,
    positive,
    negation,
    both,
    either,
    add,
    subtract,
    multiply,
    divide,
    floor_divide,
    modulo,
    power,
    concat,
    compare,         // compare: operators[i] stands between parts[i] and parts[i + 1]
    conditional,     // parts: test, value, other value (may be null)
    mark_generation  // what stands for the call of a `generation` block
  };
  Kind kind;
  Place place;
  int depth = 1;
  Value value{};            ///< of a constant
  std::string name{};       ///< variable, attribute, filter, test; a namespace's variable
  std::string attribute{};  ///< of a namespace
  std::vector<ExprPtr> parts{};
  std::vector<std::string> operators{};
  CallArguments arguments{};
  bool stored = false;     ///< a name that is assigned to
  bool parameter = false;  ///< a name of a macro's or `with`'s parameter
  Slot slot{};
};

/// What entering a scope does to its variables, and leaving it undoes.
struct Load {
  enum class Action { resolve, alias, nothing } action;
  int index;         ///< slot of the function that runs the scope
  std::string name;  ///< resolve: of the variable given to the template
  Slot from{};       ///< alias
};
struct Scope {
  std::vector<Load> loads;
  std::vector<int> clears;  ///< slots that are missing again at the end
};

struct Stmt {
  enum class Kind {
    output,
    set,
    set_block,
    loop,
    branch,
    macro,
    call_block,
    filter_block,
    with,
    scope,
    block,
    break_loop,
    continue_loop,
    refused
  };
  Kind kind;
  Place place;
  std::string name{};  ///< macro, block; refused: its tag
  std::vector<ExprPtr>
      parts{};  ///< output: values; set: target, value; set_block: target, filter or null; loop: target, iterable, test
                ///< or null; branch: tests; call_block: the call; filter_block: the filter; with: targets
  std::vector<ExprPtr> values{};          ///< with: values; macro and call_block: parameters
  std::vector<ExprPtr> defaults{};        ///< macro and call_block: of the last parameters
  std::vector<Body> bodies{};             ///< branch: one for each test, then else; loop: body, else; others: one
  bool recursive = false;                 ///< loop
  bool scoped = false, required = false;  ///< block

  // Resolved by scopes.
  Scope enter{}, test_scope{}, else_scope{};
  int slots = 0, test_slots = 0;  ///< of the function that a macro, recursive loop or a loop's test is
  bool takes_caller = false, takes_named = false, takes_positional = false;
  int caller_slot = -1, named_slot = -1, positional_slot = -1, loop_slot = -1;
  Slot self{};                                           ///< macro: where it is kept
  std::vector<std::pair<std::string, Slot>> exported{};  ///< variables that blocks see after this statement
  std::vector<std::pair<std::string, Slot>> visible{};   ///< scoped block: variables it sees
};

struct SyntaxTree {
  Body body;
  Scope enter{};
  int slots = 0;
  struct Block {
    const Stmt* statement;
    Scope enter{};
    int slots = 0;
  };
  std::vector<std::pair<std::string, Block>> blocks{};
  bool has_generation = false;
};

}  // namespace deeplora::jinja
