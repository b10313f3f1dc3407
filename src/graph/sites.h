// Which operators of a lowered forward read which weights, and how an adapter changes each of them.
#pragma once

#include <string>
#include <vector>

#include "graph/lowering.h"
#include "lm/adapter.h"

namespace deeplora {

/// Operators that an adapter can take the place of. x is what the weight multiplies.
enum class WeightOp : int64_t {
  linear,     ///< aten::linear(x, W [out, in], bias)
  matmul,     ///< aten::matmul(x, M [in, out]), aten::mm
  addmm,      ///< aten::addmm(bias, x, M [in, out]) with alpha = beta = 1
  embedding,  ///< aten::embedding(W [V, D], ids)
  conv1d,     ///< aten::conv1d(x [B, in, T], W [out, in, 1], bias), stride 1, no padding, one group
};
std::string to_string(WeightOp op);

struct WeightUse {
  torch::jit::Node* node;
  WeightOp op;
};

/// One weight, tied uses included.
struct GraphSite {
  size_t tensor = 0;        ///< index in LoweredForward::tensors
  bool embedding = false;   ///< some use is a lookup of rows
  bool transposed = false;  ///< stored [in, out]
  std::vector<WeightUse>
      uses;  ///< operators that an adapter takes the place of; of a formed weight those that it could
  /// Where some operator is none that an adapter takes the place of (an LSTM, W * 2), or takes the weight another way
  /// round: W + delta is formed once a pass, of the weight as a matrix [first, rest], and all operators read that.
  bool formed = false;
  std::string op;       ///< what reads it: "linear", "lstm"; several in alphabetical order
  int64_t readers = 0;  ///< how many operators do
};

/// A tensor that is no site, and why.
struct OtherWeight {
  std::string name;  ///< in the archive
  std::string reason;
};

struct GraphSites {
  std::vector<GraphSite> sites;  ///< in the order of LoweredForward::tensors
  std::vector<OtherWeight> others;
};

/// Follows every floating-point parameter of two or more dimensions (also inside loops and branches) that reaches the
/// output through differentiable operators. A buffer that a layer reads as its weight is none. `graph` is lowered.graph
/// or a copy of it.
GraphSites find_sites(const LoweredForward& lowered, torch::jit::Graph& graph);

/// The same of one tensor that is a site, without asking again whether it is.
GraphSite site_of(const LoweredForward& lowered, torch::jit::Graph& graph, size_t tensor);

/// Does some lookup of `site` take its ids from that argument of forward, or from the entry `key` of that dict, as they
/// come?
bool looks_up(const GraphSite& site, const torch::jit::Value* argument, const std::string& key = "");

/// Puts calls of the adapter behind `slot` (an input of the graph) in place of all uses, or, for a formed weight, of
/// the weight itself.
void splice_adapter(const LoweredForward& lowered, torch::jit::Graph& graph, const GraphSite& site,
                    torch::jit::Value* slot);

/// What a run hands to the graph for a spliced site.
c10::IValue adapter_slot(std::shared_ptr<Adapter> adapter);

}  // namespace deeplora
