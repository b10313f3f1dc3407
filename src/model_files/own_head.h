// Heads that our own export put on an archive.
#pragma once

#include <optional>
#include <string>

#include "model_files/model_files.h"

namespace deeplora {

/// Key of export.json in such archives.
inline constexpr const char* kHeadInfo = "new_head";

/// The head that lies beside the archive's own module: no model of transformers has it.
struct OwnHead {
  std::string module;   ///< its weight and bias are "module.weight", "module.bias"
  std::string pooling;  ///< of the base's states
};
/// As export.json says; nothing for other archives. Throws Error when it says it badly.
std::optional<OwnHead> own_head_of(const ModelFiles& archive);

}  // namespace deeplora
