// Activation functions by the names that config.json has for them.
#pragma once

#include <torch/types.h>

#include <string>

namespace deeplora {

/// `name` is one that models/settings.h lets pass.
torch::Tensor activate(const torch::Tensor& x, const std::string& name);

}  // namespace deeplora
