// PEFT's adapter folders (adapter_config.json + adapter_model.safetensors), both ways.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "interchange/model_card.h"
#include "interchange/names.h"
#include "interchange/peft_settings.h"
#include "lm/adapt.h"
#include "model_files/model_files.h"

namespace deeplora {

/// Patterns that match none of the parameters by the files' names, but some by their names in the class whose head
/// stands on the model, as the files' names.
std::vector<std::string> at_own_names(const std::vector<std::string>& patterns, const ModelFiles& archive,
                                      const std::vector<NamedTensor>& parameters);

/// Targets that name a weight otherwise than the site does ('*lm_head' of a model whose output layer is its embedding,
/// a name in the class of a head) name the site. Others stay as they are.
std::vector<std::string> at_tied_sites(const std::vector<std::string>& targets, const ModelFiles& archive,
                                       const std::vector<AdapterSite>& sites);

/// Throws Error with every module of the folder that these sites cannot be adapted as: modules that the model has not,
/// some uses of a tied weight but not all, tables that PEFT looks up otherwise than the model.
void check_peft_folder(const std::filesystem::path& folder, const ModelFiles& archive,
                       const std::vector<AdapterSite>& sites);

/// The folder's tensors under AdaptedModel's names. Throws Error with every tensor that has no place in the model, or
/// that holds other base weights than it.
std::map<std::string, torch::Tensor> load_peft_state(const std::filesystem::path& folder, const ModelFiles& archive,
                                                     const AdaptedModel& model);

/// A weight of the archive and its update; several adapted blocks of a fused weight are one.
struct PeftFactors {
  AdapterSite site;  ///< of the weight, or of its first block
  PeftUpdate update;
};

/// Every adapted weight as a LoRA pair of a rank of at most its smaller side. Throws Error, naming the weights, for
/// what PEFT cannot hold.
std::vector<PeftFactors> peft_factors(const AdaptedModel& model);

/// Writes the adapters (chains collapsed to one LoRA pair; DoRA with its magnitudes), trained base weights (whole
/// modules as modules_to_save, biases as PEFT keeps them), and README.md. A new head goes to head.safetensors beside
/// them. The folder must not exist. Throws Error, naming the weights, for what PEFT cannot hold.
void save_peft_folder(const std::filesystem::path& folder, const ModelFiles& archive, const AdaptedModel& model,
                      const ModelCard& card);

}  // namespace deeplora
