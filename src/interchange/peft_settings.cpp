#include "interchange/peft_settings.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <functional>

#include "core/files.h"
#include "core/json_file.h"
#include "core/safetensors.h"
#include "interchange/module_pattern.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

/// Does a value change nothing? PEFT writes every key, most of them like this.
bool is_unset(const json& value) {
  return value.is_null() || value == false ||
         ((value.is_array() || value.is_object() || value.is_string()) && value.empty());
}

/// Keys that do not change what the factors mean: notes, what matters while PEFT trains or places weights, and details
/// of starts that are refused by init_lora_weights where they matter. fan_in_fan_out follows the kind of layer,
/// whatever it says.
const std::set<std::string>& harmless_keys() {
  static const std::set<std::string> keys{
      "task_type",      "auto_mapping",        "peft_version",     "base_model_name_or_path",
      "revision",       "inference_mode",      "megatron_core",    "loftq_config",
      "eva_config",     "corda_config",        "lora_ga_config",   "fan_in_fan_out",
      "runtime_config", "ensure_weight_tying", "qalora_group_size"};
  return keys;
}

/// Keys that are followed below.
const std::set<std::string>& followed_keys() {
  static const std::set<std::string> keys{"peft_type",           "r",
                                          "lora_alpha",          "lora_dropout",
                                          "use_rslora",          "use_dora",
                                          "init_lora_weights",   "rank_pattern",
                                          "alpha_pattern",       "bias",
                                          "lora_bias",           "modules_to_save",
                                          "target_modules",      "exclude_modules",
                                          "layers_to_transform", "layers_pattern"};
  return keys;
}

/// A text or a list of texts.
std::vector<std::string> texts(const JsonFile& settings, const std::string& key) {
  if (!settings.has(key)) return {};
  if (settings.root[key].is_string()) return {settings.at<std::string>(key)};
  return settings.at<std::vector<std::string>>(key);
}

/// {"pattern": number}, the first that matches the end of a name counts. The order is the file's.
class EndPatterns {
 public:
  EndPatterns(const OrderedJsonFile& settings, const std::string& key) {
    if (!settings.has(key)) return;
    const OrderedJsonFile section = settings.section(key);
    for (const auto& [pattern, value] : section.root.items())
      values_.emplace_back(ModulePattern(pattern, key), json_as<double>(value, cat(section.name, ": ", pattern)));
  }
  double at(const std::string& module, double otherwise) const {
    for (const auto& [pattern, value] : values_)
      if (pattern.is_end(module)) return value;
    return otherwise;
  }

 private:
  std::vector<std::pair<ModulePattern, double>> values_;
};

/// Which modules PEFT adapts.
class TargetRule {
 public:
  explicit TargetRule(const JsonFile& settings) {
    for (const auto& module : texts(settings, "modules_to_save")) saved_.emplace_back(module, "modules_to_save");
    if (settings.has("target_modules")) {
      names_ = texts(settings, "target_modules");
      if (settings.root["target_modules"].is_string() && names_.front() != "all-linear")
        pattern_.emplace(names_.front(), "target_modules");
      if (settings.root["target_modules"].is_string()) names_.clear();
      named_ = settings.root["target_modules"].is_array();
    }
    excluded_ = texts(settings, "exclude_modules");
    if (settings.has("exclude_modules") && settings.root["exclude_modules"].is_string() && !excluded_.front().empty()) {
      excluded_pattern_.emplace(excluded_.front(), "exclude_modules");
      excluded_.clear();
    }
    if (settings.has("layers_to_transform")) {
      if (settings.root["layers_to_transform"].is_number()) layers_ = {settings.at<int64_t>("layers_to_transform")};
      else layers_ = settings.at<std::vector<int64_t>>("layers_to_transform");
    }
    for (const auto& pattern : texts(settings, "layers_pattern")) {
      if (pattern.empty()) continue;
      check(pattern.find('|') == std::string::npos, "layers_pattern: '", pattern,
            "' holds a |, which is not read here");
      layer_lists_.emplace_back(pattern, "layers_pattern");
    }
  }

  /// The key by which PEFT leaves the module out; nothing where it adapts it.
  std::optional<std::string> left_out_by(const std::string& module) const {
    if (excluded_pattern_ ? excluded_pattern_->is_whole(module) : named(excluded_, module)) return "exclude_modules";
    for (const auto& saved : saved_)
      if (saved.is_part(module)) return "modules_to_save";
    if (pattern_) return pattern_->is_whole(module) ? std::nullopt : std::optional<std::string>("target_modules");
    if (!named_) return std::nullopt;
    if (!named(names_, module)) return "target_modules";
    if (layers_.empty()) return std::nullopt;
    const auto layer = layer_of(module);
    return layer && std::find(layers_.begin(), layers_.end(), *layer) != layers_.end()
               ? std::nullopt
               : std::optional<std::string>("layers_to_transform");
  }

 private:
  static bool named(const std::vector<std::string>& names, const std::string& module) {
    return std::any_of(names.begin(), names.end(),
                       [&](const std::string& name) { return module == name || module.ends_with("." + name); });
  }

  /// The first number in the name that stands behind a list of layers.
  std::optional<int64_t> layer_of(const std::string& module) const {
    for (size_t begin = 0, part = 0; begin < module.size(); ++part) {
      const size_t dot = module.find('.', begin);
      if (dot == std::string::npos) break;
      const std::string text = module.substr(begin, dot - begin);
      if (!text.empty() && text.size() < 10 &&
          std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); })) {
        const std::string before = begin == 0 ? "" : module.substr(0, begin - 1);
        const bool listed = std::any_of(layer_lists_.begin(), layer_lists_.end(),
                                        [&](const ModulePattern& p) { return p.is_end(before); });
        if (layer_lists_.empty() ? part >= 2 : begin > 0 && listed) return std::stoll(text);
      }
      begin = dot + 1;
    }
    return std::nullopt;
  }

  std::vector<ModulePattern> saved_;
  std::optional<ModulePattern> pattern_, excluded_pattern_;
  std::vector<std::string> names_, excluded_;
  bool named_ = false;
  std::vector<int64_t> layers_;
  std::vector<ModulePattern> layer_lists_;
};

/// Refuses keys that are set and not followed.
void check_keys(const JsonFile& settings, Errors& errors) {
  for (const auto& [key, value] : settings.root.items()) {
    if (followed_keys().count(key) || harmless_keys().count(key) || is_unset(value)) continue;
    if (key == "trainable_token_indices")
      errors.add(
          key,
          ": rows of an embedding that were trained for themselves are not read; merge them into the model with PEFT ",
          "(merge_and_unload), and export that");
    else if (key == "layer_replication") errors.add(key, ": layers that are used several times are not made here");
    else
      errors.add(key, ": expected nothing, found ", shown(value), "; what it does to the adapter is not followed here");
  }
}

/// How init_lora_weights changes the base weights. Other starts are values of the factors alone, which the file
/// overwrites.
PeftResidual residual_of(const JsonFile& settings, Errors& errors) {
  const auto found = settings.root.find("init_lora_weights");
  if (found == settings.root.end() || found->is_null() || found->is_boolean()) return PeftResidual::none;
  std::string start = found->is_string() ? found->get<std::string>() : "";
  if (start == "pissa") return PeftResidual::principal;
  std::transform(start.begin(), start.end(), start.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (start == "olora") return PeftResidual::qr;
  if (start == "gaussian" || start == "eva" || start == "orthogonal") return PeftResidual::none;
  errors.add("init_lora_weights: expected true, false, gaussian, eva, orthogonal, pissa or olora, found ",
             shown(*found),
             "; PEFT changes the base weights by it when it loads the folder. Save the adapter as plain LoRA ",
             "(path_initial_model_for_weight_conversion of save_pretrained)");
  return PeftResidual::none;
}

bool is_name(const std::string& name) {
  const auto fits = [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '.' || c == '-' || c == '/'; };
  return !name.empty() && std::all_of(name.begin(), name.end(), fits);
}

/// Modules that the folder has factors for. Names become patterns of targets: other characters than those of names are
/// no names.
std::set<std::string> modules_of(const SafeTensorsFile& file, const fs::path& weights) {
  std::set<std::string> modules;
  for (const auto& [name, unused] : file.tensors()) {
    const auto split = split_peft_factor(name);
    if (!split) continue;
    const std::string module = without_peft_prefix(split->first);
    check(is_name(module), weights.string(), ": '", name, "' names no module; expected letters, digits, . _ - and /");
    modules.insert(module);
  }
  return modules;
}

/// Modules whose values files hold although nobody trained them: PEFT writes adapted tables with their base weight.
bool is_table(const std::string& module) {
  const std::string last = module.substr(module.rfind('.') + 1);
  for (const char* name : {"embed_tokens", "lm_head", "wte", "wpe", "shared", "word_embeddings", "position_embeddings",
                           "token_type_embeddings", "embed_in", "embed_out", "embed_positions"})
    if (last == name) return true;
  return false;
}

/// Is the module one that PEFT saves as a whole, or inside one? It asks whether a module's name ends with the text:
/// "norm" saves input_layernorm too.
bool is_saved(const std::string& module, const std::vector<std::string>& saved) {
  for (size_t dot = module.find('.');; dot = module.find('.', dot + 1)) {
    const std::string outer = module.substr(0, dot);
    if (std::any_of(saved.begin(), saved.end(), [&](const std::string& name) { return outer.ends_with(name); }))
      return true;
    if (dot == std::string::npos) return false;
  }
}

/// Globs over the base weights that the adapter trained itself.
std::vector<std::string> trained_weights(const SafeTensorsFile& file, const JsonFile& settings,
                                         const std::string& bias) {
  const std::vector<std::string> saved = texts(settings, "modules_to_save");
  std::set<std::string> out;
  for (const auto& [full, unused] : file.tensors()) {
    if (const auto module = split_factor_bias(full)) out.insert("*" + without_peft_prefix(*module) + ".bias");
    if (split_peft_factor(full) || split_factor_bias(full)) continue;
    const std::string name = without_peft_prefix(full), module = name.substr(0, std::max<size_t>(name.rfind('.'), 0));
    if (!is_name(name) || is_table(module)) continue;
    const bool is_bias = name.ends_with(".bias");
    if (is_bias && bias == "all") out.insert("*.bias");
    else if (is_saved(module, saved) || (is_bias && bias == "lora_only")) out.insert("*" + name);
  }
  return {out.begin(), out.end()};
}

/// Ranks by the shapes of the factors.
std::map<std::string, int64_t> ranks_in(const SafeTensorsFile& file) {
  std::map<std::string, int64_t> out;
  for (const auto& [name, tensor] : file.tensors()) {
    const auto split = split_peft_factor(name);
    if (split && tensor.shape.size() == 2 && split->second.ends_with("A"))
      out[without_peft_prefix(split->first)] = tensor.shape[0];
  }
  return out;
}

/// Ranks or alphas other than the folder's own, longer names first: a name is a pattern that shorter ones' ends may
/// match.
std::string own_values(const PeftFolder& folder, const std::function<std::string(const PeftModule&)>& differing) {
  std::vector<std::string> names;
  for (const auto& [name, unused] : folder.modules) names.push_back(name);
  std::stable_sort(names.begin(), names.end(), [](const auto& a, const auto& b) { return a.size() > b.size(); });
  json out = json::array();
  for (const auto& name : names)
    if (const std::string value = differing(folder.modules.at(name)); !value.empty())
      out.push_back(cat("*", name, "=", value));
  return out.dump();
}

}  // namespace

PeftFolder PeftFolder::read(const fs::path& folder) {
  const std::string text = read_file(folder / "adapter_config.json", "PEFT configuration");
  const JsonFile settings = JsonFile::parse("adapter_config.json", text);
  Errors errors;
  const auto collect = [&errors](const auto& read) {
    try {
      read();
    } catch (const Error& e) {
      errors.add(e.what());
    }
  };
  const auto type = settings.root.find("peft_type");
  if (type == settings.root.end() || *type != "LORA")
    errors.add("peft_type: expected \"LORA\", found ", type == settings.root.end() ? "nothing" : shown(*type));
  bool dora = false, stabilised = false;
  std::string bias = "none";
  PeftFolder out;
  check_keys(settings, errors);
  out.residual = residual_of(settings, errors);
  collect([&] { bias = settings.value("bias", bias); });
  if (bias != "none" && bias != "all" && bias != "lora_only")
    errors.add("bias: expected none, all or lora_only, found '", bias, "'");
  collect([&] { out.factor_bias = settings.value("lora_bias", false); });
  collect([&] { dora = settings.value("use_dora", false); });
  collect([&] { stabilised = settings.value("use_rslora", false); });
  collect([&] { out.rank = settings.at<int64_t>("r"); });
  collect([&] { out.alpha = settings.at<double>("lora_alpha"); });
  collect([&] {
    if (settings.has("lora_dropout")) out.dropout = settings.at<double>("lora_dropout");
  });
  if (dora && out.residual != PeftResidual::none)
    errors.add("use_dora together with init_lora_weights ", shown(settings.root["init_lora_weights"]),
               " is not followed here");
  std::optional<TargetRule> rule;
  std::optional<EndPatterns> ranks, alphas;
  collect([&] { rule.emplace(settings); });
  const OrderedJsonFile ordered = OrderedJsonFile::parse("adapter_config.json", text);
  collect([&] { ranks.emplace(ordered, "rank_pattern"); });
  collect([&] { alphas.emplace(ordered, "alpha_pattern"); });
  errors.throw_if_any(folder.string());

  const fs::path weights = peft_weights_file(folder);
  const SafeTensorsFile file = SafeTensorsFile::read(weights);
  out.method = dora ? "dora" : out.residual != PeftResidual::none ? "pissa" : stabilised ? "rslora" : "lora";
  // Methods that know alpha / r only get an alpha with which that is alpha / sqrt(r).
  const bool convert = stabilised && out.method != "rslora";
  const auto alpha_of = [&](double alpha, int64_t rank) {
    return convert ? alpha * std::sqrt(static_cast<double>(rank)) : alpha;
  };
  const double plain_alpha = out.alpha;
  const auto found_ranks = ranks_in(file);
  for (const auto& module : modules_of(file, weights)) {
    const double rank = ranks->at(module, static_cast<double>(out.rank));
    if (!(rank >= 1 && rank < 1e9 && rank == std::floor(rank)))
      errors.add("rank_pattern: expected a rank of at least 1 for ", module, ", found ", rank);
    const auto whole = static_cast<int64_t>(rank);
    const auto found = found_ranks.find(module);
    if (found != found_ranks.end() && found->second != whole)
      errors.add("rank_pattern and r say rank ", whole, " of ", module, ", its factors have rank ", found->second);
    if (const auto key = rule->left_out_by(module))
      errors.add(*key, ": PEFT does not adapt ", module,
                 " by it, so it leaves out the factors that the folder has for it");
    out.modules[module] = {whole, alpha_of(alphas->at(module, plain_alpha), whole)};
  }
  out.alpha = alpha_of(plain_alpha, out.rank);
  errors.throw_if_any(folder.string());
  check(!out.modules.empty(), folder.string(), " holds no LoRA factors");
  out.trained = trained_weights(file, settings, bias);
  return out;
}

bool is_peft_folder(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_directory(folder, ignored) && fs::exists(folder / "adapter_config.json", ignored);
}

std::vector<std::pair<std::string, std::string>> adapter_settings_of(const fs::path& path) {
  const PeftFolder folder = PeftFolder::read(path);
  std::vector<std::pair<std::string, std::string>> out{
      {"method", folder.method}, {"rank", json(folder.rank).dump()}, {"alpha", json(folder.alpha).dump()}};
  if (folder.dropout) out.emplace_back("dropout", json(*folder.dropout).dump());
  const std::string ranks =
      own_values(folder, [&](const PeftModule& m) { return m.rank == folder.rank ? "" : json(m.rank).dump(); });
  const std::string alphas =
      own_values(folder, [&](const PeftModule& m) { return m.alpha == folder.alpha ? "" : json(m.alpha).dump(); });
  if (ranks != "[]") out.emplace_back("ranks", ranks);
  if (alphas != "[]") out.emplace_back("alphas", alphas);
  json targets = json::array();
  for (const auto& [module, unused] : folder.modules)
    targets.push_back("*" + module);  // the archive's own prefix stands before it
  out.emplace_back("targets", targets.dump());
  if (!folder.trained.empty()) out.emplace_back("train_also", json(folder.trained).dump());
  return out;
}

void adopt_peft_settings(Config& config) {
  if (!config.section("adapter").has("path")) return;
  fs::path path;
  config.section("adapter").read("path", path, "");
  if (!is_peft_folder(path)) return;
  for (const auto& [key, value] : adapter_settings_of(path))
    if (!config.section("adapter").has(key)) config.set(cat("adapter.", key, "=", value));
}

std::vector<std::string> peft_labels(const fs::path& folder) {
  const fs::path weights = peft_weights_file(folder);
  const auto metadata = SafeTensorsFile::read(weights).metadata();
  const auto found = metadata.find(kPeftLabels);
  if (found == metadata.end()) return {};
  const auto labels = json::parse(found->second, nullptr, /*allow_exceptions=*/false);
  return json_as<std::vector<std::string>>(labels, cat(weights.string(), ": ", kPeftLabels));
}

fs::path peft_weights_file(const fs::path& folder) {
  const fs::path file = folder / "adapter_model.safetensors";
  std::error_code ignored;
  check(
      !fs::exists(folder / "adapter_model.bin", ignored) || fs::exists(file, ignored), folder.string(),
      " holds adapter_model.bin, a pickle of Python, which is not read; convert it: python -c \"import torch, "
      "safetensors.torch as s; "
      "s.save_file(torch.load('adapter_model.bin', weights_only=True), 'adapter_model.safetensors')\" in that folder");
  check(fs::exists(file, ignored), folder.string(),
        " holds no adapter_model.safetensors; save the PEFT adapter with safe_serialization=True");
  return file;
}

std::optional<std::pair<std::string, std::string>> split_peft_factor(const std::string& name) {
  for (const char* part : {"lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector"}) {
    for (const std::string& tail : {cat(".", part, ".weight"), cat(".", part)})
      if (name.ends_with(tail)) return std::pair{name.substr(0, name.size() - tail.size()), std::string(part)};
  }
  return std::nullopt;
}

std::optional<std::string> split_factor_bias(const std::string& name) {
  const std::string tail = ".lora_B.bias";
  if (!name.ends_with(tail)) return std::nullopt;
  return name.substr(0, name.size() - tail.size());
}

std::string without_peft_prefix(const std::string& name) {
  std::string out = name.starts_with(kPeftPrefix) ? name.substr(std::string(kPeftPrefix).size()) : name;
  for (const std::string wrapper : {".base_layer.", ".modules_to_save."})
    for (size_t at = out.find(wrapper); at != std::string::npos; at = out.find(wrapper))
      out.replace(at, wrapper.size(), ".");
  return out;
}

}  // namespace deeplora
