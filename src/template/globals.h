// Functions that every template has: range, dict, namespace, cycler, joiner, raise_exception, strftime_now.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "template/interpreter.h"

namespace deeplora::jinja {

/// namespace(...): the one value whose parts can be assigned to.
struct Namespace : Object {
  std::string type() const override { return "Namespace"; }
  std::optional<Value> attribute(const std::string& name) override;
  std::string repr() override;
  void set(const std::string& name, Value value);
  Dict attributes;
};

/// All namespaces of a rendering: they may hold each other, so their parts are let go at the end.
using Namespaces = std::vector<std::shared_ptr<Namespace>>;

std::map<std::string, Value> global_functions(Namespaces& namespaces, const Clock& clock);

}  // namespace deeplora::jinja
