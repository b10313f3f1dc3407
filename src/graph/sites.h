// Which operators of a lowered forward read which weights, and which of those an adapter can change.
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
  std::vector<WeightUse> uses;
};

/// A matrix that no adapter can change, and why.
struct OtherWeight {
  std::string name;  ///< in the archive, or "constant [out, in]"
  std::string reason;
};

struct GraphSites {
  std::vector<GraphSite> sites;  ///< in the order of LoweredForward::tensors
  std::vector<OtherWeight> others;
};

/// Follows every matrix parameter (also inside loops and branches). A weight that any other operator reads
/// too is no site: adapted and merged model would differ there. Nor is a buffer, or a constant of the code, that such an
/// operator reads. `graph` is lowered.graph or a copy of it.
GraphSites find_sites(const LoweredForward& lowered, torch::jit::Graph& graph);

/// Does some lookup of `site` take its ids from that argument of forward as they come?
bool looks_up(const GraphSite& site, const torch::jit::Value* argument);

/// Puts a call of the adapter behind `slot` (an input of the graph) in place of one use.
void splice_adapter(torch::jit::Graph& graph, const WeightUse& use, torch::jit::Value* slot);

/// What a run hands to the graph for a spliced site.
c10::IValue adapter_slot(std::shared_ptr<Adapter> adapter);

}  // namespace deeplora
