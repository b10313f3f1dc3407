#include "graph/fused_operators.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/constant_propagation.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/peephole.h>

#include <algorithm>
#include <unordered_set>

#include "model_files/inserted_code.h"

namespace deeplora {
namespace {

namespace jit = torch::jit;

constexpr const char *kFusedLayer = "aten::_transformer_encoder_layer_fwd",
                     *kFusedAttention = "aten::_native_multi_head_attention",
                     *kToNested = "aten::_nested_tensor_from_mask", *kToPadded = "aten::to_padded_tensor";

/// Masks are true where nothing is to be looked at; of type 0 [T, T], 1 [B, T] (padding), 2 [B, H, T, T]. Other dtypes
/// count as true where they are not 0.
constexpr const char* kFusedCode = R"(
def hidden_cells(mask: Optional[Tensor], mask_type: Optional[int]) -> Optional[Tensor]:
    if mask is None:
        return None
    hidden = mask.to(dtype=11)
    if mask_type is not None:
        if hidden.dim() == 2 and mask_type == 1:
            hidden = hidden.unsqueeze(1).unsqueeze(1)
    return hidden

def attend(q: Tensor, k: Tensor, v: Tensor, num_heads: int, proj_weight: Tensor, proj_bias: Tensor, mask: Optional[Tensor], need_weights: bool,
           average: bool, mask_type: Optional[int]) -> Tuple[Tensor, Tensor]:
    q = q.unflatten(-1, [num_heads, -1]).transpose(1, 2)
    k = k.unflatten(-1, [num_heads, -1]).transpose(1, 2)
    v = v.unflatten(-1, [num_heads, -1]).transpose(1, 2)
    hidden = hidden_cells(mask, mask_type)
    if need_weights:
        scores = torch.matmul(q * (float(q.size(-1)) ** -0.5), k.transpose(-2, -1))
        if hidden is not None:
            scores = scores.masked_fill(hidden, float("-inf"))
        weights = torch.softmax(scores, -1)
        seen = torch.matmul(weights, v)
        if average:
            weights = weights.mean(1)
    else:
        seen = torch.scaled_dot_product_attention(q, k, v, None if hidden is None else torch.logical_not(hidden), 0.0, False)
        weights = torch.empty([0], dtype=q.dtype, device=q.device)
    return torch.linear(seen.transpose(1, 2).flatten(2), proj_weight, proj_bias), weights

def self_attention(query: Tensor, key: Tensor, value: Tensor, embed_dim: int, num_heads: int, qkv_weight: Tensor, qkv_bias: Tensor,
                   proj_weight: Tensor, proj_bias: Tensor, mask: Optional[Tensor], need_weights: bool, average: bool,
                   mask_type: Optional[int]) -> Tuple[Tensor, Tensor]:
    q, k, v = torch.linear(query, qkv_weight, qkv_bias).chunk(3, -1)
    return attend(q, k, v, num_heads, proj_weight, proj_bias, mask, need_weights, average, mask_type)

def cross_attention(query: Tensor, key: Tensor, value: Tensor, embed_dim: int, num_heads: int, qkv_weight: Tensor, qkv_bias: Tensor,
                    proj_weight: Tensor, proj_bias: Tensor, mask: Optional[Tensor], need_weights: bool, average: bool,
                    mask_type: Optional[int]) -> Tuple[Tensor, Tensor]:
    w_q, w_k, w_v = qkv_weight.chunk(3, 0)
    b_q, b_k, b_v = qkv_bias.chunk(3, 0)
    return attend(torch.linear(query, w_q, b_q), torch.linear(key, w_k, b_k), torch.linear(value, w_v, b_v), num_heads, proj_weight, proj_bias, mask,
                  need_weights, average, mask_type)

def encoder_layer(src: Tensor, embed_dim: int, num_heads: int, qkv_weight: Tensor, qkv_bias: Tensor, proj_weight: Tensor, proj_bias: Tensor,
                  use_gelu: bool, norm_first: bool, eps: float, norm_weight_1: Tensor, norm_bias_1: Tensor, norm_weight_2: Tensor,
                  norm_bias_2: Tensor, ffn_weight_1: Tensor, ffn_bias_1: Tensor, ffn_weight_2: Tensor, ffn_bias_2: Tensor,
                  mask: Optional[Tensor], mask_type: Optional[int]) -> Tensor:
    x = torch.layer_norm(src, [embed_dim], norm_weight_1, norm_bias_1, eps) if norm_first else src
    x, unused = self_attention(x, x, x, embed_dim, num_heads, qkv_weight, qkv_bias, proj_weight, proj_bias, mask, False, True, mask_type)
    x = src + torch.dropout(x, 0.0, False)
    if not norm_first:
        x = torch.layer_norm(x, [embed_dim], norm_weight_1, norm_bias_1, eps)
    h = torch.layer_norm(x, [embed_dim], norm_weight_2, norm_bias_2, eps) if norm_first else x
    h = torch.linear(h, ffn_weight_1, ffn_bias_1)
    h = torch.gelu(h) if use_gelu else torch.relu(h)
    h = torch.linear(torch.dropout(h, 0.0, False), ffn_weight_2, ffn_bias_2)
    x = x + torch.dropout(h, 0.0, False)
    if not norm_first:
        x = torch.layer_norm(x, [embed_dim], norm_weight_2, norm_bias_2, eps)
    return x

def padding_of_nested(x: Tensor, keep: Tensor) -> Tensor:
    return torch.arange(x.size(1), device=x.device) >= keep.sum(1, keepdim=True)

def padding_to_hide(padding: Tensor) -> Tensor:
    return torch.logical_and(padding, torch.logical_not(padding.all(1, keepdim=True)))

def padded_to(x: Tensor, padding: Tensor, value: float, size: Optional[List[int]]) -> Tensor:
    filled = x.masked_fill(padding.unsqueeze(-1), value)
    if size is None:
        return filled[:, :int(torch.logical_not(padding).sum(1).max())]
    return filled[:, :size[1]]
)";

bool has_kind(const jit::Node* node, const char* kind) { return std::string_view(node->kind().toQualString()) == kind; }

bool is_for_inference(const jit::Node* node) {
  return has_kind(node, kFusedLayer) || has_kind(node, kFusedAttention) || has_kind(node, kToNested);
}

/// Whether what a value holds may depend on the gradient mode.
class AsksForGradients {
 public:
  bool operator()(const jit::Value* value) {
    if (!seen_.insert(value).second) return false;
    const jit::Node* node = value->node();
    if (has_kind(node, "aten::is_grad_enabled") || has_kind(node, "prim::requires_grad")) return true;
    if (node->kind() == c10::prim::Param && node->owningBlock()->owningNode())
      node = node->owningBlock()->owningNode();  // of a loop
    for (const jit::Value* input : node->inputs())
      if ((*this)(input)) return true;
    for (const jit::Block* block : node->blocks())
      for (const jit::Value* output : block->outputs())
        if ((*this)(output)) return true;
    return false;
  }

 private:
  std::unordered_set<const jit::Value*> seen_;
};

/// Decides, from the inside out, every branch that asks whether gradients are recorded and goes to operators for
/// inference on one side alone. The answer holds wherever the code has it: what a branch returned early is told by the
/// same value.
class SlowPaths {
 public:
  /// Whether operators for inference are left in the block.
  bool walk(jit::Block* block) {
    bool any = false;
    for (jit::Node* node : block->nodes()) {
      if (is_for_inference(node)) any = true;
      if (node->kind() != c10::prim::If) {
        for (jit::Block* inner : node->blocks()) any |= walk(inner);
        continue;
      }
      const bool first = walk(node->blocks().at(0)), second = walk(node->blocks().at(1));
      if (first == second || !AsksForGradients()(node->input())) {
        any |= first || second;
        continue;
      }
      jit::Graph& graph = *node->owningGraph();
      const jit::WithInsertPoint start(*graph.block()->nodes().begin());
      node->input()->replaceAllUsesWith(graph.insertConstant(second));
    }
    return any;
  }
};

/// One value, or the same view of one: torch.nn turns and widens query, key and value one by one.
bool same_value(const jit::Value* a, const jit::Value* b) {
  if (a == b) return true;
  const jit::Node *left = a->node(), *right = b->node();
  if (left->kind() != right->kind() || left->inputs().size() != right->inputs().size()) return false;
  if (left->kind() == c10::prim::Constant) {
    const auto x = jit::toIValue(a), y = jit::toIValue(b);
    return x && y && x->isInt() && y->isInt() && x->toInt() == y->toInt();
  }
  if (!has_kind(left, "aten::transpose") && !has_kind(left, "aten::unsqueeze")) return false;
  for (size_t i = 0; i < left->inputs().size(); ++i)
    if (!same_value(left->input(i), right->input(i))) return false;
  return true;
}

/// Results of a branch that are one value on both sides are one value. Returns whether there were any.
bool join_results(jit::Node* branch) {
  bool any = false;
  const auto same = [&](size_t i, size_t j) {
    for (const jit::Block* side : branch->blocks())
      if (!same_value(side->outputs().at(i), side->outputs().at(j))) return false;
    return true;
  };
  for (size_t j = 1; j < branch->outputs().size(); ++j)
    for (size_t i = 0; i < j && branch->output(j)->hasUses(); ++i) {
      if (!same(i, j)) continue;
      branch->output(j)->replaceAllUsesWith(branch->output(i));
      any = true;
    }
  return any;
}

/// `a is a` is true, and no tensor is nested here. Returns whether anything was found.
bool fold_identities(jit::Block* block) {
  bool any = false;
  for (jit::Node* node : block->nodes()) {
    for (jit::Block* inner : node->blocks()) any |= fold_identities(inner);
    if (node->kind() == c10::prim::If) any |= join_results(node);
    const bool same = has_kind(node, "aten::__is__"), different = has_kind(node, "aten::__isnot__");
    const bool decided = (same || different) && node->input(0) == node->input(1);
    if (!node->hasUses() || (!decided && !has_kind(node, "prim::is_nested"))) continue;
    const jit::WithInsertPoint here(node);
    node->output()->replaceAllUsesWith(node->owningGraph()->insertConstant(decided && same));
    any = true;
  }
  return any;
}

std::vector<jit::Node*> fused_nodes(jit::Block* block) {
  std::vector<jit::Node*> out;
  for (jit::Node* node : block->nodes()) {
    for (jit::Block* inner : node->blocks())
      for (jit::Node* found : fused_nodes(inner)) out.push_back(found);
    if (is_for_inference(node)) out.push_back(node);
  }
  return out;
}

class FusedReplacement {
 public:
  FusedReplacement(jit::Graph& graph, const std::string& where) : graph_(graph), where_(where), code_(kFusedCode) {}

  void run(std::vector<jit::Node*> nodes) {
    const auto dense = std::stable_partition(nodes.begin(), nodes.end(),
                                             [](const jit::Node* node) { return has_kind(node, kToNested); });
    for (auto nested = nodes.begin(); nested != dense; ++nested) follow_nested(*nested);  // which ends these nodes
    for (jit::Node* node : std::vector<jit::Node*>(dense, nodes.end())) {
      const bool self = node->input(0) == node->input(1) && node->input(1) == node->input(2);
      code_.replace(graph_, node,
                    has_kind(node, kFusedLayer) ? "encoder_layer"
                    : self                      ? "self_attention"
                                                : "cross_attention");
    }
  }

 private:
  /// The rows of a nested tensor lie padded in its place; attention leaves the padding out.
  void follow_nested(jit::Node* source) {
    jit::Value* x = source->input(0);
    jit::Value *padding = nullptr, *hidden = nullptr;
    {
      const jit::WithInsertPoint here(source);
      padding = code_.insert(graph_, "padding_of_nested", {x, source->input(1)}).at(0);
      hidden = code_.insert(graph_, "padding_to_hide", {padding}).at(0);
    }
    follow_uses(source->output(), padding, hidden);
    source->output()->replaceAllUsesWith(x);
    source->destroy();
  }

  void follow_uses(jit::Value* nested, jit::Value* padding, jit::Value* hidden) {
    const auto uses = nested->uses();  // replacements change the list
    for (const auto& use : uses) {
      jit::Node* user = use.user;
      const jit::WithInsertPoint here(user);
      if (has_kind(user, kFusedLayer)) {
        user->replaceInput(18, hidden);
        user->replaceInput(19, graph_.insertConstant(int64_t{1}));
        follow_uses(user->output(), padding, hidden);
      } else if (has_kind(user, kToPadded)) {
        jit::Value* filled = code_.insert(graph_, "padded_to", {nested, padding, user->input(1), user->input(2)}).at(0);
        user->output()->replaceAllUsesWith(filled);
        user->destroy();
      } else {
        fail(where_, ": its code works on nested tensors with ", user->kind().toQualString(),
             ", which has no backward pass here; export it with torch.nn.TransformerEncoder(..., "
             "enable_nested_tensor=False)");
      }
    }
  }

  jit::Graph& graph_;
  const std::string& where_;
  InsertedCode code_;
};

void tidy_up(jit::Graph& graph) {
  std::shared_ptr<jit::Graph> shared = graph.shared_from_this();
  jit::PeepholeOptimize(shared, /*disable_shape_peepholes=*/true);
  jit::ConstantPropagation(shared);
  jit::EliminateDeadCode(shared);
}

}  // namespace

void lower_fused_operators(jit::Graph& graph, const std::string& where) {
  if (fused_nodes(graph.block()).empty()) return;
  SlowPaths().walk(graph.block());
  tidy_up(graph);
  // What is left has no slow path of its own.
  if (const auto left = fused_nodes(graph.block()); !left.empty()) FusedReplacement(graph, where).run(left);
  for (tidy_up(graph); fold_identities(graph.block());) tidy_up(graph);
}

}  // namespace deeplora
