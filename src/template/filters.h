// Jinja's built-in filters, with tojson as transformers has it.
#pragma once

#include "template/syntax.h"
#include "template/value.h"

namespace deeplora::jinja {

/// Throws Error with line and column for a filter that is unknown or refused.
void check_filter(const std::string& name, Place place);
bool is_filter(const std::string& name);
/// value | name(arguments). Throws Error as Python does.
Value apply_filter(const std::string& name, const Value& value, Arguments arguments);

}  // namespace deeplora::jinja
