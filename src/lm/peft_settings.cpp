#include "lm/peft_settings.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <set>

#include "core/files.h"
#include "core/json_text.h"
#include "core/safetensors.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

nlohmann::json read_settings(const fs::path& folder) {
  const fs::path file = folder / "adapter_config.json";
  const std::string text = read_file(file, "PEFT configuration");
  const auto parsed = nests_too_deep(text) ? nlohmann::json() : nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  check(parsed.is_object(), file.string(), " is not a JSON object");
  return parsed;
}

bool is_true(const nlohmann::json& settings, const char* key) { return settings.contains(key) && settings[key].is_boolean() && settings[key].get<bool>(); }

/// Keys that would change what the factors mean.
void check_plain_lora(const nlohmann::json& settings, const fs::path& folder) {
  Errors errors;
  const auto type = settings.find("peft_type");
  if (type == settings.end() || *type != "LORA") errors.add("peft_type: expected \"LORA\", found ", type == settings.end() ? "nothing" : type->dump());
  if (is_true(settings, "lora_bias")) errors.add("lora_bias: true is not supported");
  if (is_true(settings, "use_dora") && is_true(settings, "use_rslora")) errors.add("use_dora together with use_rslora is not supported");
  for (const char* key : {"rank_pattern", "alpha_pattern", "layer_replication", "trainable_token_indices"})
    if (settings.contains(key) && !settings[key].is_null() && !settings[key].empty()) errors.add(key, " is not supported");
  if (settings.contains("bias") && settings["bias"] != "none") errors.add("bias: expected none, found ", settings["bias"].dump());
  if (!settings.contains("r") || !settings["r"].is_number_integer()) errors.add("r: a whole number is missing");
  if (!settings.contains("lora_alpha") || !settings["lora_alpha"].is_number()) errors.add("lora_alpha: a number is missing");
  if (settings.contains("lora_dropout") && !settings["lora_dropout"].is_number())
    errors.add("lora_dropout: expected a number, found ", settings["lora_dropout"].dump());
  errors.throw_if_any((folder / "adapter_config.json").string());
}

void set_unless_given(Config& config, const std::string& key, const std::string& value) {
  if (!config.section("adapter").has(key)) config.set(cat("adapter.", key, "=", value));
}

/// Modules that the folder has factors for. Names become patterns of targets: other characters than those of names are no names.
std::set<std::string> modules_of(const fs::path& folder) {
  const fs::path weights = peft_weights_file(folder);
  const SafeTensorsFile file = SafeTensorsFile::read(weights);
  std::set<std::string> modules;
  for (const auto& [name, unused] : file.tensors()) {
    const auto split = split_peft_factor(name);
    if (!split) continue;
    const std::string module = without_peft_prefix(split->first);
    const bool plain = std::all_of(module.begin(), module.end(), [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '.' || c == '-' || c == '/'; });
    check(plain && !module.empty(), weights.string(), ": '", name, "' names no module; expected letters, digits, . _ - and /");
    modules.insert(module);
  }
  // Other names of a table are no sites of their own.
  if (const auto tied = file.metadata().find("tied"); tied != file.metadata().end() && !nests_too_deep(tied->second))
    for (const auto& name : nlohmann::json::parse(tied->second, nullptr, /*allow_exceptions=*/false))
      modules.erase(name.is_string() ? name.get<std::string>() : "");
  check(!modules.empty(), folder.string(), " holds no LoRA factors");
  return modules;
}

}  // namespace

bool is_peft_folder(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_directory(folder, ignored) && fs::exists(folder / "adapter_config.json", ignored);
}

void adopt_peft_settings(Config& config) {
  if (!config.section("adapter").has("path")) return;
  fs::path folder;
  config.section("adapter").read("path", folder, "");
  if (!is_peft_folder(folder)) return;
  const auto settings = read_settings(folder);
  check_plain_lora(settings, folder);
  set_unless_given(config, "method", is_true(settings, "use_dora") ? "dora" : is_true(settings, "use_rslora") ? "rslora" : "lora");
  set_unless_given(config, "rank", settings["r"].dump());
  set_unless_given(config, "alpha", settings["lora_alpha"].dump());
  if (settings.contains("lora_dropout")) set_unless_given(config, "dropout", settings["lora_dropout"].dump());
  std::vector<std::string> targets;
  for (const auto& module : modules_of(folder)) targets.push_back("'*" + module + "'");  // the archive's own prefix stands before it
  set_unless_given(config, "targets", "[" + join(targets, ", ", targets.size()) + "]");
}

fs::path peft_weights_file(const fs::path& folder) {
  const fs::path file = folder / "adapter_model.safetensors";
  check(fs::exists(file), folder.string(), " holds no adapter_model.safetensors; save the PEFT adapter with safe_serialization=True");
  return file;
}

std::optional<std::pair<std::string, std::string>> split_peft_factor(const std::string& name) {
  for (const char* part : {"lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector"}) {
    for (const std::string& tail : {cat(".", part, ".weight"), cat(".", part)})
      if (name.ends_with(tail)) return std::pair{name.substr(0, name.size() - tail.size()), std::string(part)};
  }
  return std::nullopt;
}

std::string without_peft_prefix(const std::string& name) { return name.starts_with(kPeftPrefix) ? name.substr(std::string(kPeftPrefix).size()) : name; }

}  // namespace deeplora
