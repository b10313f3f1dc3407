// The list of fine-tuning methods: one file, one declaration and one line in registration.cpp each.
#pragma once

#include "lm/adapter.h"

namespace deeplora {

/// Adds every method of this folder under its lower-case name, in the order of the documentation.
void register_adapter_methods(AdapterMethods& methods);

/// `none` and `full` train no adapter: their configure() reads no keys and returns an empty factory.
AdapterMethod head_only_method();  // baselines.cpp
AdapterMethod full_method();       // baselines.cpp
AdapterMethod lora_method();       // lora.cpp
AdapterMethod rslora_method();     // lora.cpp
AdapterMethod deep_lora_method();  // deep_lora.cpp
AdapterMethod lora_plus_method();  // lora_plus.cpp
AdapterMethod dora_method();       // dora.cpp
AdapterMethod pissa_method();      // pissa.cpp
AdapterMethod lora_one_method();   // lora_one.cpp
AdapterMethod polar_method();      // polar.cpp

}  // namespace deeplora
