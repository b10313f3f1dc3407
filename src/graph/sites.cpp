#include "graph/sites.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <array>
#include <set>

#include "graph/reach.h"

namespace deeplora {
namespace {

namespace jit = torch::jit;

/// Operators that only ask a weight for its type, place or sizes.
const std::set<std::string>& metadata_ops() {
  static const std::set<std::string> ops{
      "aten::size",      "aten::dim",           "aten::len",       "aten::numel",    "aten::is_floating_point",
      "aten::device",    "aten::stride",        "prim::dtype",     "prim::device",   "prim::is_cuda",
      "prim::layout",    "prim::requires_grad", "aten::new_zeros", "aten::new_ones", "aten::new_full",
      "aten::new_empty", "aten::new_tensor",    "aten::is_cuda",   "aten::sym_size", "aten::__is__",
      "aten::__isnot__"};
  return ops;
}

std::optional<int64_t> constant_int(const jit::Value* value) {
  const auto constant = jit::toIValue(value);
  if (constant && constant->isInt()) return constant->toInt();
  if (constant && constant->isDouble() && constant->toDouble() == 1.0) return 1;
  return std::nullopt;
}

/// Constant list of ints, also where it is built by prim::ListConstruct; empty when it is not constant.
std::vector<int64_t> constant_ints(const jit::Value* value) {
  const auto constant = jit::toIValue(value);
  if (constant && constant->isIntList()) return constant->toIntVector();
  std::vector<int64_t> out;
  if (value->node()->kind() != c10::prim::ListConstruct) return out;
  for (const jit::Value* element : value->node()->inputs()) {
    const auto number = constant_int(element);
    if (!number) return {};
    out.push_back(*number);
  }
  return out;
}

/// aten::t and its other spellings on a matrix.
bool swaps_sides(const jit::Node* node) {
  const std::string kind = node->kind().toQualString();
  if (kind == "aten::t" || kind == "aten::numpy_T") return true;
  if (kind == "aten::transpose") {
    const auto a = constant_int(node->input(1)), b = constant_int(node->input(2));
    return a && b && (*a % 2 != 0) != (*b % 2 != 0);
  }
  return kind == "aten::permute" && constant_ints(node->input(1)) == std::vector<int64_t>{1, 0};
}

/// 1 x 1 convolution: a linear layer over channels.
bool is_pointwise(const jit::Node* node) {
  const bool full = std::string(node->kind().toQualString()) == "aten::_convolution";
  const auto transposed = full ? jit::toIValue(node->input(6)) : std::optional<c10::IValue>(false);
  const auto groups = constant_int(node->input(full ? 8 : 6));
  return constant_ints(node->input(3)) == std::vector<int64_t>{1} &&
         constant_ints(node->input(4)) == std::vector<int64_t>{0} && transposed && transposed->isBool() &&
         !transposed->toBool() && groups == 1;
}

/// Collects what becomes of one weight.
class Follower {
 public:
  explicit Follower(const torch::Tensor& weight)
      : matrix_(weight.dim() == 2), pointwise_(weight.dim() == 3 && weight.size(2) == 1) {}

  /// `flipped`: value is the stored weight transposed.
  void follow(const jit::Value* value, bool flipped) {
    for (const auto& use : value->uses()) {
      const std::string kind = use.user->kind().toQualString();
      if (kind == "prim::unchecked_cast" || (matrix_ && use.offset == 0 && swaps_sides(use.user))) {
        follow(use.user->output(), flipped != (kind != "prim::unchecked_cast"));
      } else if (const auto op = adaptable(use, kind, flipped)) {
        const bool plain = *op == WeightOp::matmul || *op == WeightOp::addmm;
        orientations_.insert(plain != flipped);
        embedding_ |= *op == WeightOp::embedding;
        uses_.push_back({use.user, *op});
        readers_.insert(to_string(*op));
        ++reads_;
      } else if (!harmless(use, kind)) {
        note_other(use);
      }
    }
  }

  bool adaptable_uses() const { return !uses_.empty(); }
  bool read() const { return reads_ > 0; }
  GraphSite site(size_t tensor) const {
    GraphSite out{tensor, embedding_, false, uses_, other_ || orientations_.size() > 1, join(readers_), reads_};
    if (!out.formed) out.transposed = *orientations_.begin();
    return out;
  }

 private:
  std::optional<WeightOp> adaptable(const jit::Use& use, const std::string& kind, bool flipped) const {
    const jit::Node* node = use.user;
    if (pointwise_) {
      const bool convolution =
          (kind == "aten::conv1d" || kind == "aten::_convolution") && use.offset == 1 && is_pointwise(node);
      return convolution ? std::optional(WeightOp::conv1d) : std::nullopt;
    }
    if (!matrix_) return std::nullopt;
    if (kind == "aten::linear" && use.offset == 1) return WeightOp::linear;
    if ((kind == "aten::matmul" || kind == "aten::mm") && use.offset == 1) return WeightOp::matmul;
    if (kind == "aten::addmm" && use.offset == 2 && constant_int(node->input(3)) == 1 &&
        constant_int(node->input(4)) == 1)
      return WeightOp::addmm;
    if (kind == "aten::embedding" && use.offset == 0 && !flipped) return WeightOp::embedding;
    return std::nullopt;
  }

  static bool harmless(const jit::Use& use, const std::string& kind) {
    if ((kind == "aten::type_as" || kind == "aten::to") && use.offset == 1) return true;
    if (kind.ends_with("_like") && use.offset == 0) return true;
    return use.offset == 0 && metadata_ops().count(kind) != 0;
  }

  /// Names the operator behind a list of weights (aten::lstm) rather than the list, and behind a branch rather than its
  /// end.
  void note_other(const jit::Use& use) {
    const jit::Node* node = use.user;
    const jit::Node* branches = node->kind() == c10::prim::Return ? node->owningBlock()->owningNode() : nullptr;
    if (branches && branches->kind() == c10::prim::If && branches->outputs().at(use.offset)->hasUses()) {
      for (const auto& behind : branches->outputs().at(use.offset)->uses())
        if (!harmless(behind, behind.user->kind().toQualString())) note_other(behind);
      return;
    }
    if (node->kind() == c10::prim::ListConstruct && node->output()->hasUses())
      node = node->output()->uses().front().user;
    const std::string kind = node->kind().toQualString();
    readers_.insert(kind.substr(kind.find("::") + 2));
    other_ = true;
    ++reads_;
  }

  bool matrix_, pointwise_;
  bool embedding_ = false, other_ = false;
  int64_t reads_ = 0;
  std::set<bool> orientations_;
  std::vector<WeightUse> uses_;
  std::set<std::string> readers_;
};

bool could_be_weight(const torch::Tensor& value) {
  return value.is_floating_point() && value.dim() >= 2 && value.numel() > 0;
}

}  // namespace

std::string to_string(WeightOp op) {
  constexpr std::array<const char*, 5> kNames{"linear", "matmul", "addmm", "embedding", "conv1d"};
  return kNames.at(static_cast<size_t>(op));
}

bool looks_up(const GraphSite& site, const jit::Value* argument, const std::string& key) {
  static const std::set<std::string> shapes{"aten::view",      "aten::reshape",   "aten::to",    "aten::contiguous",
                                            "aten::long",      "aten::int",       "aten::clone", "aten::flatten",
                                            "aten::unsqueeze", "aten::transpose", "aten::t",     "aten::slice",
                                            "aten::narrow",    "aten::squeeze",   "aten::alias", "aten::detach"};
  for (const auto& use : site.uses) {
    if (use.op != WeightOp::embedding) continue;
    const jit::Value* ids = use.node->input(1);
    while (ids != argument && shapes.count(ids->node()->kind().toQualString())) ids = ids->node()->input(0);
    if (!key.empty() && std::string_view(ids->node()->kind().toQualString()) == "aten::__getitem__") {
      const auto entry = jit::toIValue(ids->node()->input(1));
      if (entry && entry->isString() && entry->toStringRef() == key && ids->node()->input(0) == argument) return true;
    } else if (ids == argument) {
      return true;
    }
  }
  return false;
}

GraphSite site_of(const LoweredForward& lowered, jit::Graph& graph, size_t tensor) {
  Follower follower(lowered.tensors.at(tensor).value);
  follower.follow(graph.inputs().at(lowered.arguments + tensor), false);
  return follower.site(tensor);
}

GraphSites find_sites(const LoweredForward& lowered, jit::Graph& graph) {
  GraphSites out;
  const GradientReach reach(graph);
  for (size_t i = 0; i < lowered.tensors.size(); ++i) {
    const auto& [name, value, type, parameter] = lowered.tensors[i];
    if (!could_be_weight(value)) continue;
    const jit::Value* weight = graph.inputs().at(lowered.arguments + i);
    Follower follower(value);
    follower.follow(weight, false);
    if (!follower.read()) {
      if (parameter) out.others.push_back({name, "is read by no operator"});
    } else if (!parameter) {
      if (follower.adaptable_uses()) out.others.push_back({name, "is a buffer, not a parameter: it is not trained"});
    } else if (!reach.reaches_output(weight)) {
      out.others.push_back({name, cat("is read by ", follower.site(i).op, ", from where no gradient comes back")});
    } else {
      out.sites.push_back(follower.site(i));
    }
  }
  return out;
}

}  // namespace deeplora
