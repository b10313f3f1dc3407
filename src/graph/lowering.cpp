#include "graph/lowering.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/constant_propagation.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/passes/peephole.h>

#include <set>
#include <tuple>
#include <unordered_map>

#include "graph/fused_operators.h"

namespace deeplora {
namespace {

namespace jit = torch::jit;
namespace prim = c10::prim;

constexpr const char* kQuantisedHint = "adapters need floating-point weights: export the model before it is quantised";

/// Two tensors with the same key are one weight: TorchScript may load a tied weight as two views of one
/// storage.
using WeightKey = std::tuple<const void*, std::vector<int64_t>, std::vector<int64_t>, at::ScalarType>;
WeightKey key_of(const torch::Tensor& t) {
  return {t.const_data_ptr(), t.sizes().vec(), t.strides().vec(), t.scalar_type()};
}

class Lowering {
 public:
  explicit Lowering(const CodeFiles& archive) : archive_(archive), where_(cat("model ", archive.file().string())) {
    for (size_t i = 0; i < archive.parameters(); ++i) parameters_.insert(archive.tensors()[i].name);
    for (const auto& [name, value] : archive.tensors()) names_.try_emplace(key_of(value), name);
  }

  LoweredForward run() {
    out_.graph = archive_.module().get_method("forward").graph()->copy();
    jit::Inline(*out_.graph);
    modules_[out_.graph->inputs().at(0)] = {"", archive_.module()._ivalue()};
    out_.arguments = out_.graph->inputs().size() - 1;
    walk(out_.graph->block());
    for (auto node = dead_.rbegin(); node != dead_.rend(); ++node) {
      check(!(*node)->hasUses(), where_,
            ": its code chooses between submodules at run time, so its weights cannot be followed; trace it "
            "instead");
      (*node)->destroy();
    }
    check(!out_.graph->inputs().at(0)->hasUses(), where_,
          ": its code passes the whole module around, so its weights cannot be followed; trace it instead");
    out_.graph->eraseInput(0);
    lift_constants(out_.graph->block());
    jit::PeepholeOptimize(out_.graph, /*disable_shape_peepholes=*/true);
    jit::ConstantPropagation(out_.graph);
    jit::EliminateDeadCode(out_.graph);
    lower_fused_operators(*out_.graph, where_);
    refuse_quantised(out_.graph->block());
    return std::move(out_);
  }

 private:
  struct Submodule {
    std::string prefix;
    c10::intrusive_ptr<c10::ivalue::Object> object;
  };

  void walk(jit::Block* block) {
    for (jit::Node* node : block->nodes()) {
      if (node->kind() == prim::GetAttr && modules_.count(node->input())) {
        lower_attribute(node);
        continue;
      }
      for (const jit::Value* input : node->inputs())
        if (modules_.count(input)) refuse(node);
      for (jit::Block* inner : node->blocks()) walk(inner);
    }
  }

  [[noreturn]] void refuse(const jit::Node* node) const {
    if (node->kind() == prim::SetAttr)
      fail(where_, ": its forward changes its own attribute '", node->s(c10::attr::name),
           "'; the graph backend needs a forward without side effects");
    fail(where_, ": its forward uses a submodule in ", node->kind().toQualString(),
         ", so its weights cannot be followed; trace it instead");
  }

  void lower_attribute(jit::Node* node) {
    const Submodule& from = modules_.at(node->input());
    const std::string name = node->s(c10::attr::name);
    const c10::IValue value = from.object->getAttr(name);
    dead_.push_back(node);
    if (value.isModule()) {
      modules_[node->output()] = {from.prefix + name + ".", value.toObject()};
      return;
    }
    if (value.isTensor() && value.toTensor().defined()) {
      node->output()->replaceAllUsesWith(lifted(value.toTensor(), from.prefix + name));
      return;
    }
    const bool packed = value.isCustomClass() ||
                        (value.isObject() && value.type()->repr_str().find("PackedParams") != std::string::npos);
    check(!packed, where_, ": ", from.prefix, name, " is a packed weight (", value.type()->repr_str(), "); ",
          kQuantisedHint);
    const jit::WithInsertPoint here(node);
    if (value.isTensorList()) {  // the weights of an LSTM
      std::vector<jit::Value*> elements;
      for (const torch::Tensor& tensor : value.toTensorVector())
        elements.push_back(lifted(tensor, cat(from.prefix, name, ".", elements.size())));
      jit::Node* list = out_.graph->insertNode(out_.graph->createList(c10::TensorType::get(), elements));
      node->output()->replaceAllUsesWith(list->output());
      return;
    }
    const auto constant = jit::tryInsertConstant(*out_.graph, value);
    check(constant.has_value(), where_, ": attribute ", from.prefix, name, " of type ", value.type()->repr_str(),
          " cannot be followed");
    node->output()->replaceAllUsesWith(*constant);
  }

  jit::Value* lifted(const torch::Tensor& tensor, const std::string& path) {
    const auto key = key_of(tensor);
    const auto [place, fresh] = inputs_.try_emplace(key, nullptr);
    if (fresh) {
      const auto known = names_.find(key);
      const std::string name = known == names_.end() ? path : known->second;
      check(!tensor.is_quantized(), where_, ": ", name, " is quantised; ", kQuantisedHint);
      place->second = out_.graph->addInput()->setType(c10::TensorType::get());
      out_.tensors.push_back({name, tensor.detach(), tensor.scalar_type(), parameters_.count(name) != 0});
    }
    return place->second;
  }

  /// Constants that the archive counts among its weights.
  void lift_constants(jit::Block* block) {
    std::vector<jit::Node*> constants;
    for (jit::Node* node : block->nodes()) {
      for (jit::Block* inner : node->blocks()) lift_constants(inner);
      if (node->kind() == prim::Constant) constants.push_back(node);
    }
    for (jit::Node* node : constants) {
      const auto held = jit::toIValue(node->output());
      if (held && held->isTensor() && is_weight(held->toTensor())) {
        node->output()->replaceAllUsesWith(lifted(held->toTensor(), ""));
      } else if (held && held->isTensorList()) {
        const auto tensors = held->toTensorVector();
        if (std::none_of(tensors.begin(), tensors.end(), [&](const torch::Tensor& t) { return is_weight(t); }))
          continue;
        const jit::WithInsertPoint here(node);
        std::vector<jit::Value*> elements;
        for (const torch::Tensor& tensor : tensors)
          elements.push_back(is_weight(tensor) ? lifted(tensor, "") : out_.graph->insertConstant(tensor));
        node->output()->replaceAllUsesWith(
            out_.graph->insertNode(out_.graph->createList(c10::TensorType::get(), elements))->output());
      }
    }
  }

  bool is_weight(const torch::Tensor& constant) const {
    if (!constant.defined() || constant.layout() != torch::kStrided || constant.numel() == 0) return false;
    const auto known = names_.find(key_of(constant));
    return known != names_.end() && parameters_.count(known->second) != 0;
  }

  void refuse_quantised(const jit::Block* block) const {
    for (const jit::Node* node : block->nodes()) {
      const std::string kind = node->kind().toQualString();
      check(kind.rfind("quantized::", 0) != 0, where_, ": its weights are quantised (", kind, "); ", kQuantisedHint);
      for (const jit::Block* inner : node->blocks()) refuse_quantised(inner);
    }
  }

  const CodeFiles& archive_;
  std::string where_;
  std::set<std::string> parameters_;
  std::map<WeightKey, std::string> names_;
  std::map<WeightKey, jit::Value*> inputs_;
  std::unordered_map<const jit::Value*, Submodule> modules_;
  std::vector<jit::Node*> dead_;
  LoweredForward out_;
};

}  // namespace

LoweredForward lower_forward(const CodeFiles& archive) {
  LoweredForward out = Lowering(archive).run();
  check(archive.parameters() > 0, "model ", archive.file().string(),
        " holds no weights: no parameters, and no constants that its code reads as such");
  return out;
}

}  // namespace deeplora
