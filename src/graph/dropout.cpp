#include "graph/dropout.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <set>

namespace deeplora {
namespace {

namespace jit = torch::jit;

bool is_dropout(const jit::Node* node) {
  static const std::set<std::string> kinds{"aten::dropout",        "aten::dropout_",
                                           "aten::native_dropout", "aten::feature_dropout",
                                           "aten::alpha_dropout",  "aten::feature_alpha_dropout"};
  return kinds.count(node->kind().toQualString()) != 0;
}

class DropoutControl {
 public:
  DropoutControl(jit::Graph& graph, std::optional<double> probability, const std::string& where)
      : graph_(graph), probability_(probability), where_(where) {}

  void run() {
    inputs_.training = graph_.addInput("training")->setType(c10::BoolType::get());
    inputs_.training_scale = graph_.addInput("training_scale")->setType(c10::FloatType::get());
    walk(graph_.block());
  }

 private:
  void walk(jit::Block* block) {
    for (jit::Node* node : block->nodes()) {
      if (is_dropout(node)) switch_on(node);
      else if (std::string(node->kind().toQualString()) == "aten::scaled_dot_product_attention") scale(node);
      for (jit::Block* inner : node->blocks()) walk(inner);
    }
  }

  /// dropout(x, p, train)
  void switch_on(jit::Node* node) {
    const auto train = jit::toIValue(node->input(2));
    if (!train || !train->isBool()) return;  // the model's own argument decides
    const auto constant = jit::toIValue(node->input(1));
    const double p = probability_.value_or(constant && constant->isDouble() ? constant->toDouble() : 0.0);
    check(!train->toBool() || p == 0.0, where_,
          ": its dropout is always on, as it was traced in training mode; call .eval() on the model before "
          "torch.jit.trace or torch.export");
    if (p <= 0.0 && !probability_) return;
    const jit::WithInsertPoint here(node);
    node->replaceInput(1, graph_.insertConstant(p));
    node->replaceInput(2, inputs_.training);
  }

  /// scaled_dot_product_attention(q, k, v, mask, p, ...) has no flag: p itself becomes 0 outside of training.
  void scale(jit::Node* node) {
    const auto constant = jit::toIValue(node->input(4));
    if (!constant || !constant->isDouble()) return;
    check(constant->toDouble() == 0.0, where_,
          ": its attention dropout is always on, as it was traced in training mode; call .eval() on the "
          "model before torch.jit.trace or torch.export");
    if (!probability_ || *probability_ <= 0.0) return;
    const jit::WithInsertPoint here(node);
    node->replaceInput(4,
                       graph_.insert(c10::aten::mul, {graph_.insertConstant(*probability_), inputs_.training_scale}));
  }

  jit::Graph& graph_;
  std::optional<double> probability_;
  const std::string& where_;
  struct {
    jit::Value *training, *training_scale;
  } inputs_{};
};

}  // namespace

void control_dropout(jit::Graph& graph, std::optional<double> probability, const std::string& where) {
  DropoutControl(graph, probability, where).run();
}

}  // namespace deeplora
