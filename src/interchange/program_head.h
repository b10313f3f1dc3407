// Pooling and a new head as operators and weights at the end of an exported program.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "graph/torchscript_forward.h"
#include "interchange/head_module.h"
#include "lm/head.h"
#include "model_files/exported_file.h"

namespace deeplora {

/// Where the head's tensors are to stand in the program: "head.weight" and "head.bias" of module "head".
std::string head_module_name(const ExportedFile& base);

/// `program`, the content of models/NAME.json of `base`, with operators behind the states that `interface` chooses
/// which pool them and, with a head, multiply with two new parameters; its result is the logits [B, C], or the vectors
/// [B, D], alone. Without an attention mask, `padding` is the id of cells that are none; absent, every cell counts.
/// Throws Error for a result that holds no states there.
void append_end(nlohmann::json& program, const ExportedFile& base, const ArchiveInterface& interface,
                const StatesEnd& end, std::optional<int64_t> padding);

}  // namespace deeplora
