#include "model_files/inserted_code.h"

#include <ATen/core/function.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/frontend/resolver.h>
#include <torch/csrc/jit/passes/inliner.h>

namespace deeplora {

namespace jit = torch::jit;

InsertedCode::InsertedCode(const std::string& source) {
  functions_.define(std::nullopt, source, jit::nativeResolver(), nullptr);
}

std::vector<jit::Value*> InsertedCode::insert(jit::Graph& graph, const std::string& function,
                                              at::ArrayRef<jit::Value*> inputs) {
  const auto callee = jit::toGraphFunction(functions_.get_function(function)).graph()->copy();
  jit::Inline(*callee);
  std::vector<jit::Value*> out = jit::insertGraph(graph, *callee, inputs);
  if (out.size() != 1 || out.front()->node()->kind() != c10::prim::TupleConstruct) return out;
  return out.front()->node()->inputs().vec();
}

void InsertedCode::replace(jit::Graph& graph, jit::Node* node, const std::string& function) {
  const jit::WithInsertPoint here(node);
  const auto values = insert(graph, function, node->inputs());
  for (size_t i = 0; i < values.size(); ++i) node->output(i)->replaceAllUsesWith(values[i]);
  node->destroy();
}

}  // namespace deeplora
