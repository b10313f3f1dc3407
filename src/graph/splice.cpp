#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/custom_operator.h>
#include <torch/custom_class.h>

#include "factorization/lookup.h"
#include "graph/sites.h"

namespace deeplora {
namespace {

namespace jit = torch::jit;

struct Slot : torch::CustomClassHolder {
  explicit Slot(std::shared_ptr<Adapter> a) : adapter(std::move(a)) {}
  std::shared_ptr<Adapter> adapter;
};

/// The adapted layer for an operator's own arguments; `weight` is in the operator's layout.
torch::Tensor run_adapted(Adapter& adapter, WeightOp op, const torch::Tensor& x, const torch::Tensor& weight,
                          const torch::Tensor& bias) {
  switch (op) {
    case WeightOp::linear: return adapter.linear(x, weight, bias);
    case WeightOp::matmul: return adapter.linear(x, weight.t(), {});
    case WeightOp::addmm:
      return bias.dim() == 1 ? adapter.linear(x, weight.t(), bias) : adapter.linear(x, weight.t(), {}) + bias;
    case WeightOp::embedding: return adapter.embedding(x, weight);
    case WeightOp::conv1d: return adapter.linear(x.transpose(1, 2), weight.squeeze(-1), bias).transpose(1, 2);
  }
  fail("unknown operator");
}

/// deeplora::adapted(slot, op, x, weight, bias, padding_idx, scale_grad_by_freq); the last two are a lookup's. Runs
/// eagerly inside the interpreter, so autograd and autocast see the adapter's own operators.
void call_adapter(jit::Stack& stack) {
  const bool by_frequency = jit::pop(stack).toBool();
  const LookupScope lookups({jit::pop(stack).toInt(), by_frequency});
  const torch::Tensor bias = jit::pop(stack).toOptional<torch::Tensor>().value_or(torch::Tensor());
  torch::Tensor weight = jit::pop(stack).toTensor();
  torch::Tensor x = jit::pop(stack).toTensor();
  const auto op = static_cast<WeightOp>(jit::pop(stack).toInt());
  const auto slot = c10::static_intrusive_pointer_cast<Slot>(jit::pop(stack).toCapsule());
  const at::ScalarType stored = weight.scalar_type();
  if (stored != at::kHalf && stored != at::kBFloat16) {
    stack.emplace_back(run_adapted(*slot->adapter, op, x, weight, bias));
    return;
  }
  // Factors are float32: so is this one layer of a half-precision model.
  if (x.is_floating_point()) x = x.to(at::kFloat);
  const torch::Tensor wide_bias = bias.defined() ? bias.to(at::kFloat) : bias;
  stack.emplace_back(run_adapted(*slot->adapter, op, x, weight.to(at::kFloat), wide_bias).to(stored));
}

/// W' [out, in] of an adapted weight W [out, in], which autograd follows.
torch::Tensor adapted_weight(Adapter& adapter, const torch::Tensor& weight) {
  const auto update = adapter.chain_update();
  // Any other method: its layer at the unit vectors gives the columns.
  if (!update) return adapter.linear(torch::eye(weight.size(1), weight.options()), weight, {}).t();
  torch::Tensor delta;
  for (const auto& factor : update->factors) delta = delta.defined() ? at::matmul(factor, delta) : factor;
  return delta.defined() ? at::add(weight, delta.to(weight.scalar_type()), update->scale) : weight;
}

/// deeplora::adapted_weight(slot, weight), of any number of dimensions.
void form_weight(jit::Stack& stack) {
  const torch::Tensor weight = jit::pop(stack).toTensor();
  const auto slot = c10::static_intrusive_pointer_cast<Slot>(jit::pop(stack).toCapsule());
  const at::ScalarType stored = weight.scalar_type();
  const torch::Tensor wide = stored == at::kHalf || stored == at::kBFloat16 ? weight.to(at::kFloat) : weight;
  stack.emplace_back(adapted_weight(*slot->adapter, wide.flatten(1)).reshape(weight.sizes()).to(stored));
}

/// Known to TorchScript from the first use on.
void register_operators() {
  static const jit::RegisterOperators registered(
      {jit::Operator("deeplora::adapted(Any slot, int op, Tensor x, Tensor weight, Tensor? bias, int padding_idx, bool "
                     "scale_grad_by_freq) -> Tensor",
                     call_adapter, c10::AliasAnalysisKind::CONSERVATIVE),
       jit::Operator("deeplora::adapted_weight(Any slot, Tensor weight) -> Tensor", form_weight,
                     c10::AliasAnalysisKind::CONSERVATIVE)});
}

void take_place_of(jit::Graph& graph, const WeightUse& use, jit::Value* slot) {
  jit::Node* node = use.node;
  const jit::WithInsertPoint here(node);
  jit::Value *x = node->input(0), *weight = node->input(1), *bias = nullptr;
  if (use.op == WeightOp::embedding) std::swap(x, weight);
  if (use.op == WeightOp::linear || use.op == WeightOp::conv1d) bias = node->input(2);
  if (use.op == WeightOp::addmm) {
    bias = node->input(0);
    x = node->input(1);
    weight = node->input(2);
  }
  if (!bias) bias = graph.insertConstant(c10::IValue());
  jit::Value* op = graph.insertConstant(static_cast<int64_t>(use.op));
  const bool lookup = use.op == WeightOp::embedding;
  jit::Value* padding = lookup ? node->input(2) : graph.insertConstant(int64_t{-1});
  jit::Value* by_frequency = lookup ? node->input(3) : graph.insertConstant(false);
  jit::Node* call = graph.insertNode(graph.create(c10::Symbol::fromQualString("deeplora::adapted"),
                                                  {slot, op, x, weight, bias, padding, by_frequency}));
  call->output()->setType(c10::TensorType::get());
  node->output()->replaceAllUsesWith(call->output());
  node->destroy();
}

void form_where_it_is_read(jit::Graph& graph, jit::Value* weight, jit::Value* slot) {
  jit::Node* call = graph.create(c10::Symbol::fromQualString("deeplora::adapted_weight"), {slot, weight});
  call->output()->setType(c10::TensorType::get());
  graph.prependNode(call);
  weight->replaceAllUsesAfterNodeWith(call, call->output());
}

}  // namespace

c10::IValue adapter_slot(std::shared_ptr<Adapter> adapter) {
  return c10::IValue::make_capsule(c10::make_intrusive<Slot>(std::move(adapter)));
}

void splice_adapter(const LoweredForward& lowered, jit::Graph& graph, const GraphSite& site, jit::Value* slot) {
  register_operators();
  if (site.formed) return form_where_it_is_read(graph, graph.inputs().at(lowered.arguments + site.tensor), slot);
  for (const auto& use : site.uses) take_place_of(graph, use, slot);
}

}  // namespace deeplora
