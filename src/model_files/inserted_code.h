// Functions in TorchScript whose operators take the place of others in a graph.
#pragma once

#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <vector>

namespace deeplora {

class InsertedCode {
 public:
  /// Compiles the functions. Throws c10::Error when they are none.
  explicit InsertedCode(const std::string& source);

  /// The function's operators at the insert point, calls inlined; returns its outputs, a tuple's one by one.
  std::vector<torch::jit::Value*> insert(torch::jit::Graph& graph, const std::string& function,
                                         at::ArrayRef<torch::jit::Value*> inputs);
  /// The same in place of a node with these inputs and outputs.
  void replace(torch::jit::Graph& graph, torch::jit::Node* node, const std::string& function);

 private:
  torch::jit::CompilationUnit functions_;
};

}  // namespace deeplora
