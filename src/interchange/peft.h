// PEFT's adapter folders (adapter_config.json + adapter_model.safetensors), both ways.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "interchange/peft_settings.h"
#include "lm/adapt.h"
#include "model_files/model_files.h"

namespace deeplora {

/// The folder's tensors under AdaptedModel's names. Throws Error with every tensor that has no place in the model.
std::map<std::string, torch::Tensor> load_peft_state(const std::filesystem::path& folder, const ModelFiles& archive,
                                                     const AdaptedModel& model);

/// Writes the adapters (chains collapsed to one LoRA pair; DoRA with its magnitudes), and trained weights of the archive's head as modules_to_save. A
/// new head goes to head.safetensors beside them. The folder must not exist. Throws Error for methods that are no LoRA pair.
void save_peft_folder(const std::filesystem::path& folder, const ModelFiles& archive, const AdaptedModel& model,
                      const std::string& task);

/// Archive name -> Hugging Face name: the prefix that the export recorded is taken off.
std::string hugging_face_name(const ModelFiles& archive, const std::string& name);

}  // namespace deeplora
