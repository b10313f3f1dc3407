// The fine-tuning methods.
#pragma once

#include <string>

#include "lm/adapter.h"

namespace deeplora {

/// Adds every method of this folder under its lower-case name, in the order of the documentation, then those of
/// add_adapter_method().
void register_adapter_methods(AdapterMethods& methods);

/// A method from outside of this folder: known from then on to whoever asks for the methods. Throws std::logic_error
/// where the name is taken. Not for several threads at once.
void add_adapter_method(const std::string& name, AdapterMethod method);

}  // namespace deeplora
