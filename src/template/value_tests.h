// Jinja's built-in tests: value is name(arguments).
#pragma once

#include "template/syntax.h"
#include "template/value.h"

namespace deeplora::jinja {

/// Throws Error with line and column for an unknown test.
void check_test(const std::string& name, Place place);
bool is_test(const std::string& name);
bool apply_test(const std::string& name, const Value& value, Arguments arguments);

}  // namespace deeplora::jinja
