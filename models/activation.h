// Activation functions by the names that config.json has for them.
#pragma once

#include <torch/types.h>

#include <optional>
#include <string>

#include "factorization/input_function.h"

namespace deeplora {

/// `name` is one that models/settings.h lets pass.
torch::Tensor activate(const torch::Tensor& x, const std::string& name);

/// activate(gate) * up of [gate, up] side by side, [..., 2 M] -> [..., M]; SiLU and GELU on the CPU in float32 in one
/// pass over memory each way.
torch::Tensor activate_gate(const torch::Tensor& gate_up, const std::string& name);

/// activate() as a layer's input function, for those that are one.
std::optional<InputFunction> input_function(const std::string& name);
/// activate_gate() likewise.
std::optional<InputFunction> gate_function(const std::string& name);

}  // namespace deeplora
