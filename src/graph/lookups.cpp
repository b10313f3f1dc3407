#include "graph/lookups.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include "graph/lowering.h"

namespace deeplora {
namespace {

namespace jit = torch::jit;

/// Of embedding(weight, indices, padding_idx, scale_grad_by_freq, sparse).
LookupOptions options_of(const jit::Node* lookup) {
  LookupOptions out;
  const auto padding = jit::toIValue(lookup->input(2)), by_frequency = jit::toIValue(lookup->input(3));
  if (padding && padding->isInt()) out.padding = padding->toInt();
  if (by_frequency && by_frequency->isBool()) out.by_frequency = by_frequency->toBool();
  return out;
}

void collect(const jit::Block* block, const std::map<const jit::Value*, const void*>& tables,
             std::map<const void*, LookupOptions>& out) {
  for (const jit::Node* node : block->nodes()) {
    for (const jit::Block* inner : node->blocks()) collect(inner, tables, out);
    if (node->kind() != c10::aten::embedding) continue;
    const auto table = tables.find(node->input(0));
    if (table != tables.end()) out.try_emplace(table->second, options_of(node));
  }
}

}  // namespace

std::map<const void*, LookupOptions> table_lookups(const CodeFiles& archive) {
  std::map<const void*, LookupOptions> out;
  try {
    const LoweredForward lowered = lower_forward(archive);
    std::map<const jit::Value*, const void*> tables;
    for (size_t i = 0; i < lowered.tensors.size(); ++i)
      tables[lowered.graph->inputs().at(lowered.arguments + i)] = lowered.tensors[i].value.const_data_ptr();
    collect(lowered.graph->block(), tables, out);
  } catch (const std::exception&) {
    out.clear();  // a forward that only a native family can serve
  }
  return out;
}

}  // namespace deeplora
