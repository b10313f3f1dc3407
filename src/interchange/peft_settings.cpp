#include "interchange/peft_settings.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <set>

#include "core/files.h"
#include "core/json_file.h"
#include "core/safetensors.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

/// What adapter_config.json says of the factors.
struct PeftSettings {
  int64_t rank = 0;
  double alpha = 0;
  std::optional<double> dropout;
  std::string method = "lora";
};

/// Throws one Error with every key that is of another type or would change what the factors mean.
PeftSettings read_settings(const fs::path& folder) {
  const JsonFile settings = JsonFile::parse("adapter_config.json", read_file(folder / "adapter_config.json", "PEFT configuration"));
  Errors errors;
  const auto collect = [&errors](const auto& read) {
    try {
      read();
    } catch (const Error& e) {
      errors.add(e.what());
    }
  };
  const auto type = settings.root.find("peft_type");
  if (type == settings.root.end() || *type != "LORA") errors.add("peft_type: expected \"LORA\", found ", type == settings.root.end() ? "nothing" : shown(*type));
  for (const char* key : {"rank_pattern", "alpha_pattern", "layer_replication", "trainable_token_indices"})
    if (settings.has(key) && !settings.root[key].empty()) errors.add(key, " is not supported");
  if (settings.root.contains("bias") && settings.root["bias"] != "none") errors.add("bias: expected none, found ", shown(settings.root["bias"]));
  bool bias = false, dora = false, stabilised = false;
  PeftSettings out;
  collect([&] { bias = settings.value("lora_bias", false); });
  collect([&] { dora = settings.value("use_dora", false); });
  collect([&] { stabilised = settings.value("use_rslora", false); });
  collect([&] { out.rank = settings.at<int64_t>("r"); });
  collect([&] { out.alpha = settings.at<double>("lora_alpha"); });
  collect([&] { if (settings.has("lora_dropout")) out.dropout = settings.at<double>("lora_dropout"); });
  if (bias) errors.add("lora_bias: true is not supported");
  if (dora && stabilised) errors.add("use_dora together with use_rslora is not supported");
  errors.throw_if_any(folder.string());
  out.method = dora ? "dora" : stabilised ? "rslora" : "lora";
  return out;
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
  const PeftSettings settings = read_settings(folder);
  set_unless_given(config, "method", settings.method);
  set_unless_given(config, "rank", nlohmann::json(settings.rank).dump());
  set_unless_given(config, "alpha", nlohmann::json(settings.alpha).dump());
  if (settings.dropout) set_unless_given(config, "dropout", nlohmann::json(*settings.dropout).dump());
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
