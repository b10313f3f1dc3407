// Activation functions by the names that config.json has for them.
#pragma once

#include <torch/types.h>

#include <string>

#include "lm/archive.h"

namespace deeplora {

/// Throws Error naming the archive when the function is not known.
void check_activation(const TorchScriptArchive& archive, const std::string& name);

torch::Tensor activate(const torch::Tensor& x, const std::string& name);

}  // namespace deeplora
