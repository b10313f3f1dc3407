// Runs a template's syntax tree.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "template/syntax.h"
#include "template/value.h"

namespace deeplora::jinja {

struct Rendering {
  std::string text;
  /// Where `generation` blocks stand in the text, [begin, end) in bytes.
  std::vector<std::pair<size_t, size_t>> generations;
  /// A `generation` block inside of a macro or another block that collects text, whose place is not known.
  bool hidden_generation = false;
};

/// Values by name that a template is given, in front of the built-in functions.
using Variables = std::vector<std::pair<std::string, Value>>;
/// strftime_now(format), or empty: then calling it is an error.
using Clock = std::function<std::string(const std::string& format)>;

/// Throws Error "line L, column C: ..." for what the template raises, mistakes in it, and when it does too much.
Rendering run_template(const SyntaxTree& tree, const Variables& variables, const Clock& clock);

}  // namespace deeplora::jinja
