#include "interchange/peft.h"

#include <cmath>
#include <set>

#include "core/files.h"
#include "graph/roles.h"
#include "lm/targets.h"
#include "model_files/tensor_file.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

/// Other archive names of a site's weight (tied tables), without ".weight".
std::vector<std::string> other_names(const ModelFiles& archive, const AdapterSite& site) {
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
    tensors.push_back({cat(kPeftPrefix, module, ".lora_embedding_A"), pair.b.t().contiguous()});
    tensors.push_back({cat(kPeftPrefix, module, ".lora_embedding_B"), pair.a.t().contiguous()});
  } else {
    tensors.push_back({cat(kPeftPrefix, module, ".lora_A.weight"), pair.a.contiguous()});
    tensors.push_back({cat(kPeftPrefix, module, ".lora_B.weight"), pair.b.contiguous()});
  }
}

std::string task_type(const std::string& task, bool has_head) {
  if (task == "causal-lm") return "CAUSAL_LM";
  if (task == "seq2seq") return "SEQ_2_SEQ_LM";
  return has_head ? "SEQ_CLS" : "FEATURE_EXTRACTION";
}

}  // namespace

std::string hugging_face_name(const ModelFiles& archive, const std::string& name) {
  const std::string prefix = archive.export_info().value("prefix", std::string());
  return !prefix.empty() && name.rfind(prefix, 0) == 0 ? name.substr(prefix.size()) : name;
}

std::map<std::string, torch::Tensor> load_peft_state(const fs::path& folder, const ModelFiles& archive, const AdaptedModel& model) {
  std::map<std::string, std::pair<std::string, SiteKind>> sites;  // Hugging Face module -> archive weight
  for (const auto& [site, unused] : model.adapters()) {
    sites[module_path(hugging_face_name(archive, site.path))] = {site.path, site.kind};
    for (const auto& other : other_names(archive, site)) sites[hugging_face_name(archive, other)] = {site.path, site.kind};
  }
  std::map<std::string, std::string> trained;  // Hugging Face name -> archive name
  for (const auto& [name, unused] : model.trained_base()) trained[hugging_face_name(archive, name)] = name;
  std::map<std::string, torch::Tensor> out;
  Errors errors;
  for (const auto& [name, value] : load_tensors(peft_weights_file(folder)).tensors) {
    const auto split = split_peft_factor(name);
    if (!split) {
      const auto found = trained.find(without_peft_prefix(name));
      if (found != trained.end()) out["base/" + found->second] = value;
      else errors.add(name, " has no place in this model");
      continue;
    }
    const auto site = sites.find(without_peft_prefix(split->first));
    if (site == sites.end()) {
      errors.add(name, " has no place in this model");
      continue;
    }
    if (split->second == "lora_magnitude_vector") {
      out[cat("adapter/", site->second.first, "/magnitude")] = value;
      continue;
    }
    if (value.dim() != 2) {
      errors.add(name, ": expected a matrix, found shape ", value.sizes());
      continue;
    }
    const bool embedding = split->second.find("embedding") != std::string::npos;
    const bool is_a = embedding ? split->second.ends_with("B") : split->second.ends_with("A");
    const auto [place, fresh] = out.try_emplace(cat("adapter/", site->second.first, is_a ? "/A" : "/B"), embedding ? value.t().contiguous() : value);
    const torch::Tensor same = embedding ? value.t() : value;
    if (!fresh && !(place->second.sizes() == same.sizes() && place->second.dtype() == same.dtype() && at::allclose(place->second, same)))
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

void save_peft_folder(const fs::path& folder, const ModelFiles& archive, const AdaptedModel& model, const std::string& task) {
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
      tensors.push_back({cat(kPeftPrefix, module, ".lora_magnitude_vector"), update.magnitude});
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
    tensors.push_back({kPeftPrefix + hf, value});
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
