#include "graph/unknown_weights.h"

#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <set>

#include "graph/lowering.h"

namespace deeplora {
namespace {

/// "a.b.": what all names begin with.
std::string common_module(const std::vector<std::string>& names) {
  std::string common = names.empty() ? "" : names.front();
  for (const auto& name : names) {
    const auto ends = std::mismatch(common.begin(), common.end(), name.begin(), name.end());
    common.erase(ends.first, common.end());
  }
  return common.substr(0, common.rfind('.') + 1);
}

}  // namespace

void check_reads_nothing_beside(const CodeFiles& archive, LanguageModel& model) {
  LoweredForward lowered;
  try {
    lowered = lower_forward(archive);
  } catch (const std::exception&) {
    return;
  }
  std::vector<std::string> taken;
  std::set<const void*> memory;  // a tied weight has several names
  for (const auto& [name, unused] : model.base_parameters()) {
    taken.push_back(name);
    if (archive.has(name)) memory.insert(archive.tensor(name).const_data_ptr());
  }
  const std::string inside = common_module(taken);
  std::vector<std::string> beside;
  for (size_t i = 0; i < lowered.tensors.size(); ++i) {
    const auto& [name, value, unused, parameter] = lowered.tensors[i];
    if (parameter && !name.starts_with(inside) && !memory.count(value.const_data_ptr()) &&
        lowered.graph->inputs().at(lowered.arguments + i)->hasUses())
      beside.push_back(name);
  }
  check(beside.empty(), "model ", archive.file().string(), ": its forward reads weights that the native family ",
        model.family(), " does not know: ", join(beside));
}

}  // namespace deeplora
