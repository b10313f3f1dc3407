#include "model_files/foreign_operators.h"

#include <map>

namespace deeplora {
namespace {

/// transformers.grouped_mm_fallback: x [S, K] sorted by expert, weights [E, K, N], where each expert's rows end [E] ->
/// [S, N]; rows behind the last expert's are 0 (transformers 5, integrations/moe.py).
constexpr const char* kCode = R"(
def grouped_mm(input: Tensor, weight: Tensor, offs: Tensor) -> Tensor:
    parts: List[Tensor] = []
    start = 0
    for expert in range(weight.size(0)):
        end = int(offs[expert])
        if end != start:
            parts.append(torch.mm(input[start:end], weight[expert]))
            start = end
    parts.append(torch.zeros([input.size(0) - start, weight.size(2)], dtype=input.dtype, device=input.device))
    return torch.cat(parts)
)";

}  // namespace

std::optional<ForeignOperator> foreign_operator(const std::string& path) {
  static const std::map<std::string, ForeignOperator> known{
      {"transformers.grouped_mm_fallback.default", {"grouped_mm", {"input", "weight", "offs"}}},
  };
  const auto found = known.find(path);
  return found == known.end() ? std::nullopt : std::optional(found->second);
}

const char* foreign_operators_code() { return kCode; }

}  // namespace deeplora
