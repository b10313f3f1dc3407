// Dropout that tracing left switched off in a graph, put under the model's control.
#pragma once

#include <optional>
#include <string>

#include "model_files/torchscript_file.h"

namespace deeplora {

/// Adds two last inputs: `training` (bool), the flag of every dropout operator, and `training_scale` (float,
/// 1 in training, else 0), a factor of fused attention's probabilities. Every dropout of the graph
/// (recursively) whose probability is above 0, or all of them at `probability` when it is given, follows
/// them. Throws Error, naming `where`, for a graph traced in training mode.
void control_dropout(torch::jit::Graph& graph, std::optional<double> probability, const std::string& where);

}  // namespace deeplora
