// Jinja templates, as transformers runs chat templates: its immutable sandbox with trim_blocks, lstrip_blocks, loop
// controls, `generation` blocks and its own tojson. Free of LibTorch.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "template/interpreter.h"

namespace deeplora::jinja {

/// A parsed template. It reads nothing but its variables and is bounded in steps, depth and output.
class Template {
 public:
  /// Throws Error "NAME, line L, column C: ..." for a malformed template.
  static Template parse(std::string_view source, std::string name = "template");

  /// Throws Error "NAME, line L, column C: ..." for what the template raises.
  Rendering render(const Variables& variables, const Clock& clock = {}) const;
  /// True when the template marks what the model writes with {% generation %}.
  bool marks_generation() const { return tree_->has_generation; }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  std::shared_ptr<const SyntaxTree> tree_;
};

/// strftime_now for one day, "YYYY-MM-DD" (at midnight). Throws Error for text that is no date.
Clock clock_of(const std::string& date);

}  // namespace deeplora::jinja
