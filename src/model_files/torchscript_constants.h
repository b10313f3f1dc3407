// Weights and devices that lie in the code of a TorchScript file.
#pragma once

#include <torch/script.h>

#include <filesystem>
#include <vector>

#include "core/optimizer.h"

namespace deeplora {

/// Constants of forward's code that its operators read as weights: what torch.jit.freeze and optimize_for_inference
/// make of all parameters, and tracing of a function that closes over them. Their names are those of the file's code
/// ("CONSTANTS.c0"); equal ones are one. Changing a value in place changes the module's.
std::vector<NamedTensor> weight_constants(const torch::jit::Module& module, const std::filesystem::path& file);

/// Puts `device` in place of every other device that the code of the module names.
void follow_device(const torch::jit::Module& module, torch::Device device);

}  // namespace deeplora
