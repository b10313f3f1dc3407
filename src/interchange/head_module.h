// A new head compiled around an archive as TorchScript, and what the file that holds it says of it.
#pragma once

#include <torch/script.h>

#include <optional>
#include <string>

#include "graph/torchscript_forward.h"
#include "lm/adapt.h"
#include "lm/pooled_model.h"
#include "model_files/torchscript_file.h"

namespace deeplora {

/// A head as a file holds it: module `kHeadModule` with weight [C, D] and bias [C] beside `kBaseModule`, the archive it
/// was made around.
inline constexpr const char *kHeadModule = "head", *kBaseModule = "base";

/// The head's weight [C, D] and bias [C] without the targets' mean and spread, in the precision of its outputs: float32
/// or wider.
struct FoldedHead {
  torch::Tensor weight, bias;
  double rounding = 0;  ///< what that precision loses of them, largest
};
FoldedHead fold(const ModelWithHead& head, torch::ScalarType outputs);

/// What stands on an archive's states.
struct StatesEnd {
  VectorForm form;                           ///< how they become one vector a text
  std::optional<FoldedHead> head;            ///< what that is multiplied with; absent: the vector itself is the output
  torch::ScalarType type = torch::kFloat32;  ///< of the vector, without a head
};

/// What the run put on the archive's states; nothing where that is their own end. `outputs`: the live model's dtype.
std::optional<StatesEnd> end_of(AdaptedModel& adapted, torch::ScalarType outputs);

/// The archive's module inside a new one that takes the same arguments, pools its states and multiplies with the head,
/// in the head's precision. Without an attention mask, `padding` is the id of cells that are none; absent, every cell
/// counts. Throws Error for arguments that cannot be written.
torch::jit::Module module_around(const TorchScriptArchive& base, const ArchiveInterface& interface,
                                 const StatesEnd& end, std::optional<int64_t> padding, const Batch& probe);

/// A value as TorchScript source: 1.0, float('inf'), 'a\'b', [1, 2]; nothing where it has no literal.
std::optional<std::string> torchscript_literal(const c10::IValue& value);

}  // namespace deeplora
