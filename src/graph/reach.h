// Where the values of a graph come from and go to.
#pragma once

#include <string>
#include <vector>

#include "model_files/torchscript_file.h"

namespace deeplora {

/// Whether a gradient comes back from the graph's output to this value: some way there has a backward pass at every
/// operator.
bool reaches_output(const torch::jit::Graph& graph, const torch::jit::Value* value);

/// The value that model.output names ("" the first tensor; "1", "logits", "0.logits"); null where the graph does not
/// tell.
const torch::jit::Value* chosen_output(const torch::jit::Graph& graph, const std::string& path);

/// The layer that makes an output.
struct OutputLayer {
  std::vector<const torch::jit::Value*>
      weights;  ///< inputs of the graph; several where branches or a parametrisation read several
  const torch::jit::Value* bias = nullptr;  ///< another one
};

/// What a matrix product or a convolution multiplies with to make the value `from`, when nothing follows it but its
/// bias, scaling, activations and changes of shape; weights are inputs of the graph from number `first` on. Empty where
/// something else makes the output, as the sum or the norm behind the last layer of an encoder.
OutputLayer output_layer(const torch::jit::Graph& graph, const torch::jit::Value* from, size_t first);

}  // namespace deeplora
