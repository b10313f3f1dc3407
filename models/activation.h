// Activation functions by the names that config.json has for them.
#pragma once

#include <torch/types.h>

#include <optional>
#include <string>

#include "factorization/input_function.h"

namespace deeplora {

/// `name` is one that models/settings.h lets pass.
torch::Tensor activate(const torch::Tensor& x, const std::string& name);

/// activate(gate) * up, both [N, M] (rows of any stride); SiLU on the CPU in float32 in one pass over memory each way.
torch::Tensor activate_gate(const torch::Tensor& gate, const torch::Tensor& up, const std::string& name);

/// The same as a layer's input function, for those that are one.
std::optional<InputFunction> input_function(const std::string& name);

}  // namespace deeplora
