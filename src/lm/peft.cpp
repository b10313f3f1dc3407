#include "lm/peft.h"

#include <cmath>
#include <set>

#include "core/files.h"
#include "lm/graph_roles.h"
#include "lm/targets.h"
#include "lm/tensor_file.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr const char* kPrefix = "base_model.model.";

nlohmann::json read_settings(const fs::path& folder) {
  const fs::path file = folder / "adapter_config.json";
  try {
    return nlohmann::json::parse(read_file(file, "PEFT configuration"));
  } catch (const nlohmann::json::exception&) {
    fail(file.string(), " is not valid JSON");
  }
}

/// Keys that would change what the factors mean.
void check_plain_lora(const nlohmann::json& settings, const fs::path& folder) {
  Errors errors;
  const std::string type = settings.value("peft_type", "");
  if (type != "LORA") errors.add("peft_type: expected LORA, found '", type, "'");
  const auto is_true = [&](const char* key) { return settings.contains(key) && settings[key].is_boolean() && settings[key].get<bool>(); };
  if (is_true("lora_bias")) errors.add("lora_bias: true is not supported");
  if (is_true("use_dora") && is_true("use_rslora")) errors.add("use_dora together with use_rslora is not supported");
  for (const char* key : {"rank_pattern", "alpha_pattern", "layer_replication", "trainable_token_indices"})
    if (settings.contains(key) && !settings[key].is_null() && !settings[key].empty()) errors.add(key, " is not supported");
  if (settings.contains("bias") && settings["bias"] != "none") errors.add("bias: expected none, found ", settings["bias"].dump());
  if (!settings.contains("r") || !settings["r"].is_number_integer()) errors.add("r: a whole number is missing");
  if (!settings.contains("lora_alpha") || !settings["lora_alpha"].is_number()) errors.add("lora_alpha: a number is missing");
  errors.throw_if_any((folder / "adapter_config.json").string());
}

/// "base_model.model.a.b.lora_A.weight" -> {"a.b", "lora_A"}; nothing for other names.
std::optional<std::pair<std::string, std::string>> split_factor(const std::string& name) {
  for (const char* part : {"lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector"}) {
    for (const std::string& tail : {cat(".", part, ".weight"), cat(".", part)})
      if (name.ends_with(tail)) return std::pair{name.substr(0, name.size() - tail.size()), std::string(part)};
  }
  return std::nullopt;
}

std::string without_prefix(const std::string& name) {
  return name.rfind(kPrefix, 0) == 0 ? name.substr(std::string(kPrefix).size()) : name;
}

fs::path weights_file(const fs::path& folder) {
  const fs::path file = folder / "adapter_model.safetensors";
  check(fs::exists(file), folder.string(), " holds no adapter_model.safetensors; save the PEFT adapter with safe_serialization=True");
  return file;
}

/// Other archive names of a site's weight (tied tables), without ".weight".
std::vector<std::string> other_names(const TorchScriptArchive& archive, const AdapterSite& site) {
  std::vector<std::string> out;
  if (site.kind != SiteKind::embedding || site.uses < 2) return out;
  const torch::Tensor& table = archive.tensor(site.path);
  for (const auto& [name, value] : archive.tensors())
    if (name != site.path && value.sizes() == table.sizes() && value.data_ptr() == table.data_ptr()) out.push_back(module_path(name));
  return out;
}

/// How PEFT names the factors of a module: an embedding's are kept transposed, delta^T = lora_embedding_B lora_embedding_A.
void add_factors(std::vector<NamedTensor>& tensors, const std::string& module, const LowRankPair& pair, bool embedding) {
  if (embedding) {
    tensors.push_back({cat(kPrefix, module, ".lora_embedding_A"), pair.b.t().contiguous()});
    tensors.push_back({cat(kPrefix, module, ".lora_embedding_B"), pair.a.t().contiguous()});
  } else {
    tensors.push_back({cat(kPrefix, module, ".lora_A.weight"), pair.a.contiguous()});
    tensors.push_back({cat(kPrefix, module, ".lora_B.weight"), pair.b.contiguous()});
  }
}

std::string task_type(const std::string& task, bool has_head) {
  if (task == "causal-lm") return "CAUSAL_LM";
  if (task == "seq2seq") return "SEQ_2_SEQ_LM";
  return has_head ? "SEQ_CLS" : "FEATURE_EXTRACTION";
}

void set_or_check(Config& config, const std::string& key, const std::string& value) {
  if (!config.section("adapter").has(key)) config.set(cat("adapter.", key, "=", value));
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
  set_or_check(config, "method", settings.value("use_dora", false) ? "dora" : settings.value("use_rslora", false) ? "rslora" : "lora");
  set_or_check(config, "rank", settings["r"].dump());
  set_or_check(config, "alpha", settings["lora_alpha"].dump());
  if (settings.contains("lora_dropout")) set_or_check(config, "dropout", settings["lora_dropout"].dump());
  std::set<std::string> modules;
  const TensorFile file = load_tensors(weights_file(folder));
  for (const auto& [name, unused] : file.tensors)
    if (const auto split = split_factor(name)) modules.insert(without_prefix(split->first));
  if (const auto tied = file.metadata.find("tied"); tied != file.metadata.end())  // other names of a table are no sites of their own
    for (const auto& name : nlohmann::json::parse(tied->second, nullptr, false)) modules.erase(name.is_string() ? name.get<std::string>() : "");
  check(!modules.empty(), folder.string(), " holds no LoRA factors");
  std::vector<std::string> targets;
  for (const auto& module : modules) targets.push_back("'*" + module + "'");  // the archive's own prefix stands before it
  set_or_check(config, "targets", "[" + join(targets, ", ", targets.size()) + "]");
}

std::string hugging_face_name(const TorchScriptArchive& archive, const std::string& name) {
  const std::string prefix = archive.export_info().value("prefix", std::string());
  return !prefix.empty() && name.rfind(prefix, 0) == 0 ? name.substr(prefix.size()) : name;
}

std::map<std::string, torch::Tensor> load_peft_state(const fs::path& folder, const TorchScriptArchive& archive, const AdaptedModel& model) {
  std::map<std::string, std::pair<std::string, SiteKind>> sites;  // Hugging Face module -> archive weight
  for (const auto& [site, unused] : model.adapters()) {
    sites[module_path(hugging_face_name(archive, site.path))] = {site.path, site.kind};
    for (const auto& other : other_names(archive, site)) sites[hugging_face_name(archive, other)] = {site.path, site.kind};
  }
  std::map<std::string, std::string> trained;  // Hugging Face name -> archive name
  for (const auto& [name, unused] : model.trained_base()) trained[hugging_face_name(archive, name)] = name;
  std::map<std::string, torch::Tensor> out;
  Errors errors;
  for (const auto& [name, value] : load_tensors(weights_file(folder)).tensors) {
    const auto split = split_factor(name);
    if (!split) {
      const auto found = trained.find(without_prefix(name));
      if (found != trained.end()) out["base/" + found->second] = value;
      else errors.add(name, " has no place in this model");
      continue;
    }
    const auto site = sites.find(without_prefix(split->first));
    if (site == sites.end()) {
      errors.add(name, " has no place in this model");
      continue;
    }
    if (split->second == "lora_magnitude_vector") {
      out[cat("adapter/", site->second.first, "/magnitude")] = value;
      continue;
    }
    const bool embedding = split->second.find("embedding") != std::string::npos;
    const bool is_a = embedding ? split->second.ends_with("B") : split->second.ends_with("A");
    const auto [place, fresh] = out.try_emplace(cat("adapter/", site->second.first, is_a ? "/A" : "/B"), embedding ? value.t().contiguous() : value);
    if (!fresh && !at::allclose(place->second, embedding ? value.t() : value))
      errors.add(name, " differs from the factors of ", site->second.first, ", which is the same weight");
  }
  errors.throw_if_any((folder / "adapter_model.safetensors").string());
  std::error_code ignored;
  if (model.new_head() && fs::exists(folder / "head.safetensors", ignored)) {
    // The file's head has the targets' mean and spread folded in.
    const HeadOptions& options = model.new_head()->options();
    for (const auto& [name, value] : load_tensors(folder / "head.safetensors").tensors)
      out["head/" + name] = (name == "bias" ? value - options.shift : value) / options.scale;
  } else if (model.new_head()) {
    for (const auto& [name, value] : model.new_head()->head_parameters()) out["head/" + name] = value;
  }
  for (const auto& [name, value] : model.trained_base()) out.try_emplace("base/" + name, value.detach());
  return out;
}

namespace {

struct PeftFactors {
  AdapterSite site;  ///< of the archive's weight
  PeftUpdate update;
};

/// One pair whose update is that of both, the rows of `added` being a block of the weight's: PEFT knows no choice of rows, so B is zero in the
/// others.
void add_block(LowRankPair& pair, const AdapterSite& site, const LowRankPair& added) {
  torch::NoGradGuard no_grad;
  const torch::Tensor b = torch::zeros({site.fused_weight.size(0), added.b.size(1)}, added.b.options());
  if (!pair.b.defined()) pair.scale = added.scale;
  site.block.add_to(b, added.b * (added.scale / pair.scale));
  pair.b = pair.b.defined() ? torch::cat({pair.b, b}, 1) : b;
  pair.a = pair.a.defined() ? torch::cat({pair.a, added.a}, 0) : added.a;
}

/// What PEFT holds of every adapted weight of the archive. Throws Error where it can hold nothing.
std::vector<PeftFactors> peft_factors(const AdaptedModel& model) {
  std::vector<PeftFactors> out;
  std::map<std::string, size_t> fused;
  for (const auto& [site, adapter] : model.adapters()) {
    const auto update = adapter->peft_update();
    check(site.stored_shape.empty(), site.path, ": the weight of a convolution has no place in a PEFT folder; export torchscript or safetensors");
    check(update.has_value(), site.path, ": this method's update is not a LoRA pair; export torchscript or safetensors");
    if (site.fused_path.empty()) {
      out.push_back({site, *update});
      continue;
    }
    check(!update->magnitude.defined(), site.path, ": PEFT keeps a magnitude for every row of ", site.fused_path,
          ", so DoRA at some of its rows has no place in a PEFT folder; export torchscript or safetensors");
    const auto [place, fresh] = fused.try_emplace(site.fused_path, out.size());
    if (fresh) out.push_back({site, {}});
    add_block(out[place->second].update.pair, site, update->pair);
  }
  return out;
}

}  // namespace

void save_peft_folder(const fs::path& folder, const TorchScriptArchive& archive, const AdaptedModel& model, const std::string& task) {
  check(!model.adapters().empty(), "this run has no adapters (method none or full), so there is nothing to write for PEFT; export torchscript or safetensors");
  check(!fs::exists(folder), "output ", folder.string(), " exists already; choose another --output");
  std::vector<NamedTensor> tensors;
  std::vector<std::string> modules, tied;
  nlohmann::ordered_json rank_pattern = nlohmann::ordered_json::object(), alpha_pattern = nlohmann::ordered_json::object();
  int64_t rank = 0;
  double alpha = 0;
  bool dora = false, transposed = false;  // Conv1D: PEFT keeps its factors like those of any linear layer
  for (const auto& [site, update] : peft_factors(model)) {
    const LowRankPair& pair = update.pair;
    transposed |= site.transposed;
    const std::string module = module_path(hugging_face_name(archive, site.archive_path()));
    if (update.magnitude.defined()) {
      dora = true;
      tensors.push_back({cat(kPrefix, module, ".lora_magnitude_vector"), update.magnitude});
    }
    modules.push_back(module);
    const int64_t r = pair.a.size(0);
    const double site_alpha = pair.scale * static_cast<double>(r);
    if (rank == 0) {
      rank = r;
      alpha = site_alpha;
    }
    if (r != rank) rank_pattern[module] = r;
    if (site_alpha != alpha) alpha_pattern[module] = site_alpha;
    add_factors(tensors, module, pair, site.kind == SiteKind::embedding);
    // PEFT has factors for every module: a tied table's are written once for each of its uses.
    for (const auto& other : other_names(archive, site)) {
      const std::string name = hugging_face_name(archive, other);
      add_factors(tensors, name, pair, guess_role(other, SiteKind::linear) != "lm_head");
      modules.push_back(name);
      tied.push_back(name);
      if (r != rank) rank_pattern[name] = r;
      if (site_alpha != alpha) alpha_pattern[name] = site_alpha;
    }
  }
  std::set<std::string> saved;
  for (const auto& [name, value] : model.trained_base()) {
    const std::string hf = hugging_face_name(archive, name);
    tensors.push_back({kPrefix + hf, value});
    saved.insert(hf.substr(0, hf.find('.')));
  }
  nlohmann::ordered_json settings{{"peft_type", "LORA"},
                                  {"task_type", task_type(task, !saved.empty())},
                                  {"base_model_name_or_path", archive.config().value("_name_or_path", std::string())},
                                  {"r", rank},
                                  {"lora_alpha", alpha == std::round(alpha) ? nlohmann::ordered_json(static_cast<int64_t>(alpha)) : nlohmann::ordered_json(alpha)},
                                  {"lora_dropout", 0.0},
                                  {"bias", "none"},
                                  {"fan_in_fan_out", transposed},
                                  {"inference_mode", true},
                                  {"init_lora_weights", true},
                                  {"use_rslora", false},
                                  {"use_dora", dora},
                                  {"target_modules", modules},
                                  {"rank_pattern", rank_pattern},
                                  {"alpha_pattern", alpha_pattern},
                                  {"modules_to_save", saved.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(saved)}};
  write_folder_atomically(folder, [&](const fs::path& temporary) {
    std::map<std::string, std::string> metadata{{"format", "pt"}};
    if (!tied.empty()) metadata["tied"] = nlohmann::json(tied).dump();
    save_tensors(temporary / "adapter_model.safetensors", tensors, metadata);
    write_file_atomically(temporary / "adapter_config.json", settings.dump(2) + "\n");
    if (model.new_head()) {
      const auto [weight, bias] = model.new_head()->folded();
      save_tensors(temporary / "head.safetensors", {{"weight", weight}, {"bias", bias}},
                   {{"task", task}, {"pooling", to_string(model.new_head()->options().pooling)}});
    }
  });
}

}  // namespace deeplora
