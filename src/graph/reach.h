// Where the values of a graph come from and go to.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "model_files/torchscript_file.h"

namespace deeplora {

/// The values that a gradient comes back to from the graph's output: some way there has a backward pass at every
/// operator. Found once, from the output on; the graph must stay as it is.
class GradientReach {
 public:
  explicit GradientReach(const torch::jit::Graph& graph);
  bool reaches_output(const torch::jit::Value* value) const { return reached_.count(value) != 0; }

 private:
  bool walk(const torch::jit::Block* block);
  bool mark(const torch::jit::Node* node);
  bool through(const torch::jit::Node* node, size_t offset) const;
  bool out_of_block(const torch::jit::Block* block, size_t offset) const;
  const torch::jit::Graph& graph_;
  std::unordered_set<const torch::jit::Value*> reached_;
};

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
