// What a PEFT folder says of itself: its settings and the names of its tensors. Free of LibTorch; the values are read
// in interchange/peft.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/config.h"

namespace deeplora {

/// Stands before every name in PEFT's files.
inline constexpr const char* kPeftPrefix = "base_model.model.";

/// What PEFT takes out of the base weights when it builds the adapter, before it reads the factors.
enum class PeftResidual { none, principal /* init_lora_weights: pissa */, qr /* olora */ };

/// A module that the folder has factors for.
struct PeftModule {
  int64_t rank = 0;
  double alpha = 0;  ///< of the method that reads the folder: alpha / r, of rslora alpha / sqrt r
};

/// adapter_config.json beside the names in adapter_model.safetensors.
struct PeftFolder {
  std::string method = "lora";  ///< lora, rslora, dora, pissa
  int64_t rank = 0;
  double alpha = 0;
  std::optional<double> dropout;
  PeftResidual residual = PeftResidual::none;
  std::map<std::string, PeftModule> modules;  ///< by Hugging Face name
  std::vector<std::string>
      trained;  ///< globs over names of base weights that the adapter trained itself (biases, modules_to_save)
  bool factor_bias = false;  ///< lora_bias

  /// Throws one Error with every key that is of another type, that says what is not followed here, or that is not known
  /// and set.
  static PeftFolder read(const std::filesystem::path& folder);
};

/// A folder as keys of the `adapter` section and their values in YAML: method, rank, alpha, targets, and what else it
/// says. Throws Error as PeftFolder::read does.
std::vector<std::pair<std::string, std::string>> adapter_settings_of(const std::filesystem::path& folder);

/// When adapter.path names a PEFT folder, its method, ranks, alphas, dropout, targets and trained weights become the
/// configuration's (an explicit key that says otherwise is a mistake). Throws Error as PeftFolder::read does.
void adopt_peft_settings(Config& config);

/// True when the folder holds adapter_config.json.
bool is_peft_folder(const std::filesystem::path& folder);

/// Key of the classes' names in the metadata of our own folders' adapter_model.safetensors: PEFT has no place for them.
inline constexpr const char* kPeftLabels = "labels";

/// The classes of the folder's head in their order; empty where it does not say.
std::vector<std::string> peft_labels(const std::filesystem::path& folder);

/// adapter_model.safetensors of the folder. Throws Error when it is not there, with how to make it of an
/// adapter_model.bin.
std::filesystem::path peft_weights_file(const std::filesystem::path& folder);

/// "base_model.model.a.b.lora_A.weight" -> {"base_model.model.a.b", "lora_A"}; nothing for other names.
std::optional<std::pair<std::string, std::string>> split_peft_factor(const std::string& name);

/// "base_model.model.a.b.lora_B.bias" -> "base_model.model.a.b"; nothing for other names.
std::optional<std::string> split_factor_bias(const std::string& name);

/// The name of a tensor or module in the model: without kPeftPrefix and PEFT's wrappers around modules.
std::string without_peft_prefix(const std::string& name);

}  // namespace deeplora
