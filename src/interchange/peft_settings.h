// What a PEFT folder says of itself: its settings and the names of its tensors. Free of LibTorch; the values are read in interchange/peft.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "core/config.h"

namespace deeplora {

/// Stands before every name in PEFT's files.
inline constexpr const char* kPeftPrefix = "base_model.model.";

/// When adapter.path names a PEFT folder, its method, rank, alpha, dropout and targets become the configuration's (an
/// explicit key that says otherwise is a mistake). Throws Error for adapters that are neither plain LoRA nor DoRA.
void adopt_peft_settings(Config& config);

/// True when the folder holds adapter_config.json.
bool is_peft_folder(const std::filesystem::path& folder);

/// adapter_model.safetensors of the folder. Throws Error when it is not there.
std::filesystem::path peft_weights_file(const std::filesystem::path& folder);

/// "base_model.model.a.b.lora_A.weight" -> {"base_model.model.a.b", "lora_A"}; nothing for other names.
std::optional<std::pair<std::string, std::string>> split_peft_factor(const std::string& name);

/// The name without kPeftPrefix, where it has it.
std::string without_peft_prefix(const std::string& name);

}  // namespace deeplora
