#include "graph/reach.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <string_view>
#include <unordered_set>

namespace deeplora {
namespace {

namespace jit = torch::jit;
using Values = std::unordered_set<const jit::Value*>;

std::string_view name_of_kind(const jit::Node* node) { return node->kind().toQualString(); }

/// Numbers, truth values and indices that operators with a backward pass give, and what cuts a gradient off.
bool cuts_off(std::string_view kind) {
  static const std::set<std::string_view> kinds{
      "aten::detach",    "aten::detach_",     "aten::argmax",     "aten::argmin", "aten::argsort", "aten::eq",
      "aten::ne",        "aten::lt",          "aten::le",         "aten::gt",     "aten::ge",      "aten::isnan",
      "aten::isfinite",  "aten::isinf",       "aten::any",        "aten::all",    "aten::nonzero", "aten::bincount",
      "aten::item",      "aten::Int",         "aten::Float",      "aten::Bool",   "aten::size",    "aten::logical_not",
      "aten::bernoulli", "aten::multinomial", "aten::is_nonzero", "prim::dtype",  "prim::device",  "prim::data"};
  return kinds.count(kind) != 0 || (kind.ends_with("_like") && kind.starts_with("aten::"));
}

bool has_backward(const jit::Node* node) {
  const std::string_view kind = name_of_kind(node);
  if (cuts_off(kind)) return false;
  const auto* schema = node->maybeSchema();
  if (!schema || !kind.starts_with("aten::"))
    return true;  // prim, and other libraries' operators, which tell when they run
  const auto op = c10::Dispatcher::singleton().findOp({schema->name(), schema->overload_name()});
  return !op || op->hasKernelForDispatchKey(c10::DispatchKey::Autograd) ||
         op->hasKernelForDispatchKey(c10::DispatchKey::AutogradCPU) ||
         op->hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd);
}

/// What leaves a layer's outputs what they are: one value after the other, or in another shape.
bool keeps_outputs(std::string_view kind) {
  static const std::set<std::string_view> kinds{"aten::view",         "aten::reshape",  "aten::squeeze",
                                                "aten::unsqueeze",    "aten::flatten",  "aten::contiguous",
                                                "aten::to",           "aten::type_as",  "aten::float",
                                                "aten::clone",        "aten::alias",    "aten::softmax",
                                                "aten::log_softmax",  "aten::sigmoid",  "aten::tanh",
                                                "aten::relu",         "aten::sigmoid_", "aten::tanh_",
                                                "aten::relu_",        "aten::dropout",  "aten::dropout_",
                                                "aten::clamp",        "aten::softplus", "aten::exp",
                                                "aten::log_sigmoid",  "aten::neg",      "prim::unchecked_cast",
                                                "aten::_log_softmax", "aten::_softmax"};
  return kinds.count(kind) != 0;
}

bool multiplies(std::string_view kind) {
  return kind == "aten::linear" || kind == "aten::matmul" || kind == "aten::mm" || kind == "aten::addmm" ||
         kind == "aten::_convolution" || (kind.starts_with("aten::conv") && kind.ends_with("d"));
}

class OutputLayerSearch {
 public:
  OutputLayerSearch(const jit::Graph& graph, size_t first) : graph_(graph) {
    for (size_t i = first; i < graph.inputs().size(); ++i) weights_.insert(graph.inputs()[i]);
    for (size_t i = 0; i < first; ++i) arguments_.insert(graph.inputs()[i]);
  }

  OutputLayer from(const jit::Value* value) {
    const jit::Node* node = value->node();
    const std::string_view kind = name_of_kind(node);
    if (keeps_outputs(kind)) return from(node->input(0));
    if (node->kind() == c10::prim::If) return from_branches(node, value->offset());
    if (multiplies(kind)) return layer(node, kind);
    if (kind == "aten::mul" || kind == "aten::add" || kind == "aten::div" || kind == "aten::sub" ||
        kind == "aten::mul_" || kind == "aten::add_" || kind == "aten::div_" || kind == "aten::sub_") {
      const bool left = fixed(node->input(0)), right = fixed(node->input(1));
      if (left == right) return {};
      OutputLayer out = from(node->input(left ? 1 : 0));
      const jit::Value* other = node->input(left ? 0 : 1);
      if (kind.starts_with("aten::add") && !out.bias && weights_.count(other)) out.bias = other;
      return out;
    }
    return {};
  }

 private:
  OutputLayer from_branches(const jit::Node* node, size_t offset) {
    OutputLayer out;
    for (const jit::Block* branch : node->blocks()) {
      const OutputLayer found = from(branch->outputs().at(offset));
      out.weights.insert(out.weights.end(), found.weights.begin(), found.weights.end());
      if (!out.bias) out.bias = found.bias;
    }
    return out;
  }

  OutputLayer layer(const jit::Node* node, std::string_view kind) {
    OutputLayer out;
    out.weights = weights_behind(node->input(kind == "aten::addmm" ? 2 : 1));
    const bool added = kind == "aten::linear" || kind.starts_with("aten::_conv") || kind.starts_with("aten::conv");
    const jit::Value* bias = kind == "aten::addmm" ? node->input(0) : added ? node->input(2) : nullptr;
    if (bias && weights_.count(bias)) out.bias = bias;
    return out;
  }

  /// Whether a value is made of weights and constants alone.
  bool fixed(const jit::Value* value) {
    Values seen;
    return !meets_argument(value, seen);
  }
  bool meets_argument(const jit::Value* value, Values& seen) {
    if (arguments_.count(value)) return true;
    if (!seen.insert(value).second || weights_.count(value)) return false;
    const jit::Node* node = value->node();
    if (node->kind() == c10::prim::Param && node->owningBlock() != graph_.block()) return true;  // inside a loop
    if (!node->blocks().empty()) return true;
    for (const jit::Value* input : node->inputs())
      if (meets_argument(input, seen)) return true;
    return false;
  }

  std::vector<const jit::Value*> weights_behind(const jit::Value* operand) {
    if (!fixed(operand)) return {};
    std::vector<const jit::Value*> out, open{operand};
    Values seen;
    while (!open.empty()) {
      const jit::Value* value = open.back();
      open.pop_back();
      if (!seen.insert(value).second) continue;
      if (weights_.count(value)) out.push_back(value);
      else open.insert(open.end(), value->node()->inputs().begin(), value->node()->inputs().end());
    }
    return out;
  }

  const jit::Graph& graph_;
  Values weights_, arguments_;
};

/// The part of a tuple, list or dict that `key` names, the first for an empty one; null where the graph does not tell.
const jit::Value* element(const jit::Node* node, std::string_view key) {
  const auto inputs = node->inputs();
  if (node->kind() == c10::prim::DictConstruct) {
    for (size_t i = 0; i + 1 < inputs.size(); i += 2) {
      const auto name = jit::toIValue(inputs[i]);
      if (key.empty() || (name && name->isString() && name->toStringRef() == key)) return inputs[i + 1];
    }
    return nullptr;
  }
  if (node->kind() != c10::prim::TupleConstruct && node->kind() != c10::prim::ListConstruct) return nullptr;
  if (!std::all_of(key.begin(), key.end(), ::isdigit) || key.size() > 5) return nullptr;
  const size_t place = key.empty() ? 0 : std::stoul(std::string(key));
  return place < inputs.size() ? inputs[place] : nullptr;
}

}  // namespace

GradientReach::GradientReach(const jit::Graph& graph) : graph_(graph) {
  while (walk(graph.block())) {
  }  // what a loop carries round may reach the output by its next turn alone
}

bool GradientReach::walk(const jit::Block* block) {
  bool more = mark(block->return_node());
  for (const jit::Node* node : block->nodes().reverse()) {
    for (const jit::Block* inner : node->blocks()) more |= walk(inner);
    more |= mark(node);
  }
  return more;
}

bool GradientReach::mark(const jit::Node* node) {
  bool more = false;
  for (size_t i = 0; i < node->inputs().size(); ++i)
    if (!reached_.count(node->input(i)) && through(node, i)) more |= reached_.insert(node->input(i)).second;
  return more;
}

bool GradientReach::through(const jit::Node* node, size_t offset) const {
  if (node == graph_.return_node()) return true;
  if (node->kind() == c10::prim::Return) return out_of_block(node->owningBlock(), offset);
  if (node->kind() == c10::prim::Loop && offset >= 2)
    return reaches_output(node->outputs().at(offset - 2)) ||
           reaches_output(node->blocks().at(0)->inputs().at(offset - 1));
  if (node->kind() == c10::prim::If || node->kind() == c10::prim::Loop) return false;  // a choice, a count
  // What an operator in place changes is read under other names: that something does is taken for granted.
  const std::string_view kind = name_of_kind(node);
  const bool in_place = offset > 0 && ((kind.ends_with("_") && !kind.ends_with("__")) || kind == "aten::append");
  const auto outputs = node->outputs();
  const bool on = in_place || std::any_of(outputs.begin(), outputs.end(),
                                          [&](const jit::Value* output) { return reaches_output(output); });
  return on && has_backward(node);
}

bool GradientReach::out_of_block(const jit::Block* block, size_t offset) const {
  const jit::Node* owner = block->owningNode();
  if (!owner) return false;
  if (owner->kind() != c10::prim::Loop) return reaches_output(owner->outputs().at(offset));
  if (offset == 0) return false;  // whether to go on
  return reaches_output(owner->outputs().at(offset - 1)) || reaches_output(block->inputs().at(offset));
}

const jit::Value* chosen_output(const jit::Graph& graph, const std::string& path) {
  const jit::Value* value = graph.outputs().size() == 1 ? graph.outputs()[0] : nullptr;
  std::string_view rest = path;
  while (value && !value->type()->isSubtypeOf(*c10::TensorType::get())) {
    const std::string_view key = rest.substr(0, rest.find('.'));
    rest = key.size() < rest.size() ? rest.substr(key.size() + 1) : std::string_view();
    value = element(value->node(), key);
  }
  return rest.empty() ? value : nullptr;
}

OutputLayer output_layer(const jit::Graph& graph, const jit::Value* from, size_t first) {
  return OutputLayerSearch(graph, first).from(from);
}

}  // namespace deeplora
