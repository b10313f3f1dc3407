#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "core/files.h"
#include "core/json_file.h"
#include "interchange/peft.h"
#include "lm/targets.h"
#include "model_files/tensor_file.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

/// Sites by the Hugging Face names of the modules that read their weights.
std::map<std::string, const AdapterSite*> sites_by_module(const ModelFiles& archive,
                                                          const std::vector<AdapterSite>& sites) {
  std::map<std::string, const AdapterSite*> out;
  for (const auto& site : sites) {
    out[module_path(hugging_face_name(archive, site.path))] = &site;
    out.emplace(module_path(site.path), &site);  // of a folder that was made on the base model alone
    if (!site.fused_path.empty()) continue;
    for (const auto& other : tied_names(archive, site.path))
      out.emplace(module_path(hugging_face_name(archive, other)), &site);
  }
  return out;
}

/// The archive's name of a tensor by its Hugging Face name.
std::map<std::string, std::string> archive_names(const ModelFiles& archive) {
  std::map<std::string, std::string> out;
  for (const auto& [name, unused] : archive.tensors()) out.emplace(hugging_face_name(archive, name), name);
  for (const auto& [name, unused] : archive.tensors()) out.emplace(name, name);
  return out;
}

bool same_values(const torch::Tensor& file, const torch::Tensor& base) {
  return file.sizes() == base.sizes() && at::equal(file.to(base.scalar_type()), base.to(torch::kCPU));
}

/// Files the folder's tensors under the names of a run's state.
class StateReader {
 public:
  StateReader(const fs::path& folder, const ModelFiles& archive, const AdaptedModel& model)
      : archive_(archive), model_(model), settings_(PeftFolder::read(folder)), archive_names_(archive_names(archive)) {
    for (const auto& [site, unused] : model.adapters()) sites_.push_back(site);
    by_module_ = sites_by_module(archive, sites_);
    for (const auto& [name, value] : model.trained_base()) {
      trained_[hugging_face_name(archive, name)] = {name, value};
      trained_.emplace(name, NamedTensor{name, value});
    }
  }

  void add(const std::string& name, const torch::Tensor& value) {
    if (const auto module = split_factor_bias(name)) add_factor_bias(without_peft_prefix(*module), value);
    else if (const auto split = split_peft_factor(name))
      add_factor(name, without_peft_prefix(split->first), split->second, value);
    else add_base_weight(name, value);
  }

  std::map<std::string, torch::Tensor> finish(const fs::path& folder) {
    errors_.throw_if_any((folder / "adapter_model.safetensors").string());
    if (settings_.residual != PeftResidual::none)
      for (const auto& [site, unused] : model_.adapters()) add_residual(site);
    errors_.throw_if_any(folder.string());
    return std::move(out_);
  }

 private:
  void add_factor(const std::string& name, const std::string& module, const std::string& part,
                  const torch::Tensor& value) {
    const auto site = by_module_.find(module);
    if (site == by_module_.end()) {
      errors_.add(name, " has no place in this model");
      return;
    }
    const std::string key = cat("adapter/", site->second->path, "/");
    const bool magnitude = part == "lora_magnitude_vector", embedding = part.find("embedding") != std::string::npos;
    if (!magnitude && value.dim() != 2) {
      errors_.add(name, ": expected a matrix, found shape ", value.sizes());
      return;
    }
    const torch::Tensor own = embedding ? value.t().contiguous() : value;
    const bool is_a = embedding ? part.ends_with("B") : part.ends_with("A");
    const auto [place, fresh] = out_.try_emplace(magnitude ? key + "magnitude" : key + (is_a ? "A" : "B"), own);
    if (!fresh && !(place->second.sizes() == own.sizes() && place->second.dtype() == own.dtype() &&
                    at::allclose(place->second, own)))
      errors_.add(name, " differs from the factors of ", site->second->path, ", which is the same weight");
  }

  /// lora_bias: what B's bias adds to every output is part of the layer's own bias.
  void add_factor_bias(const std::string& module, const torch::Tensor& value) {
    const auto bias = trained_.find(module + ".bias");
    const auto found = settings_.modules.find(module);
    if (bias == trained_.end() || found == settings_.modules.end() || bias->second.value.sizes() != value.sizes()) {
      errors_.add("lora_bias: ", module, " has no bias in this model that could take that of its factors");
      return;
    }
    const auto& [rank, alpha] = found->second;
    const double r = static_cast<double>(rank), scale = alpha / (settings_.method == "rslora" ? std::sqrt(r) : r);
    const std::string key = "base/" + bias->second.name;
    const torch::Tensor before = out_.count(key) ? out_.at(key) : bias->second.value.detach().to(torch::kCPU);
    out_[key] = before + value.to(before.scalar_type()) * scale;
  }

  void add_base_weight(const std::string& name, const torch::Tensor& value) {
    const std::string own = without_peft_prefix(name);
    if (const auto found = trained_.find(own); found != trained_.end()) {
      const std::string key = "base/" + found->second.name;
      const torch::Tensor own_units = model_.in_training(found->second.name, value);
      // The file's order decides nothing: a bias of the factors may have come first.
      out_[key] =
          out_.count(key)
              ? out_.at(key) + (own_units.to(out_.at(key).scalar_type()) - found->second.value.detach().to(torch::kCPU))
              : own_units;
      return;
    }
    const auto archived = archive_names_.find(own);
    if (archived == archive_names_.end()) errors_.add(name, " has no place in this model");
    else if (!same_values(value, archive_.tensor(archived->second)))
      errors_.add(name, " holds other values than ", archived->second,
                  " of this model: the adapter was trained beside another base, or trained ",
                  "that weight itself (modules_to_save, a resized vocabulary), which is not followed for this one");
  }

  /// What PEFT takes out of W [out, in] when it loads such a folder: the leading part of W's singular value
  /// decomposition, or the first columns and rows of its QR decomposition.
  void add_residual(const AdapterSite& site) {
    const std::string key = cat("adapter/", site.path, "/");
    const auto a = out_.find(key + "A");
    if (a == out_.end()) return;  // said where the state is loaded
    if (site.kind == SiteKind::embedding || site.transposed) {
      errors_.add("init_lora_weights: PEFT starts ", site.path,
                  site.transposed ? ", which is stored transposed," : ", an embedding,",
                  " in another way than linear layers");
      return;
    }
    const int64_t r = a->second.size(0);
    const double scale = scale_of(site, r);
    const torch::Tensor weight = site.weight.detach().to(torch::kCPU, torch::kFloat32);
    if (settings_.residual == PeftResidual::qr) {
      const auto [q, upper] = at::linalg_qr(weight);
      out_[key + "B0"] = q.narrow(1, 0, r).contiguous();
      out_[key + "A0"] = upper.narrow(0, 0, r).contiguous();
      return;
    }
    const auto [u, s, vh] = at::linalg_svd(weight, /*full_matrices=*/false);
    const torch::Tensor root = (s.narrow(0, 0, r) / scale).sqrt();
    out_[key + "B0"] = u.narrow(1, 0, r) * root;
    out_[key + "A0"] = (vh.narrow(0, 0, r) * root.unsqueeze(1)).contiguous();
  }

  double scale_of(const AdapterSite& site, int64_t rank) const {
    for (const auto& [module, values] : settings_.modules) {
      const auto found = by_module_.find(module);
      if (found != by_module_.end() && found->second->path == site.path)
        return values.alpha / static_cast<double>(values.rank);
    }
    return settings_.alpha / static_cast<double>(rank);
  }

  const ModelFiles& archive_;
  const AdaptedModel& model_;
  PeftFolder settings_;
  std::map<std::string, std::string> archive_names_;
  std::vector<AdapterSite> sites_;
  std::map<std::string, const AdapterSite*> by_module_;
  std::map<std::string, NamedTensor> trained_;  ///< Hugging Face name -> archive name and value
  std::map<std::string, torch::Tensor> out_;
  Errors errors_;
};

/// What a site's weight is called elsewhere: in the class of a head that stands on the model, and by its other uses.
std::vector<std::string> other_names(const ModelFiles& archive, const AdapterSite& site) {
  std::vector<std::string> out{hugging_face_name(archive, site.path)};
  if (site.uses > 1)
    for (const auto& other : tied_names(archive, site.path)) out.push_back(other);
  return out;
}

}  // namespace

std::vector<std::string> at_own_names(const std::vector<std::string>& patterns, const ModelFiles& archive,
                                      const std::vector<NamedTensor>& parameters) {
  std::vector<std::string> out;
  for (const auto& pattern : patterns) {
    const size_t before = out.size();
    const bool any = std::any_of(parameters.begin(), parameters.end(),
                                 [&](const NamedTensor& p) { return glob_matches(pattern, p.name); });
    for (const auto& [name, unused] : parameters)
      if (!any && glob_matches(pattern, hugging_face_name(archive, name))) out.push_back(name);
    if (out.size() == before) out.push_back(pattern);
  }
  return out;
}

std::vector<std::string> at_tied_sites(const std::vector<std::string>& targets, const ModelFiles& archive,
                                       const std::vector<AdapterSite>& sites) {
  std::vector<std::string> out;
  for (const auto& target : targets) {
    const auto matches = [&](const std::string& path) {
      return glob_matches(target, path) || glob_matches(target, module_path(path));
    };
    std::string instead = target;
    const bool any =
        std::any_of(sites.begin(), sites.end(), [&](const AdapterSite& site) { return matches(site.path); });
    for (const auto& site : sites)
      for (const auto& other : any ? std::vector<std::string>{} : other_names(archive, site))
        if (matches(other)) instead = site.path;
    if (std::find(out.begin(), out.end(), instead) == out.end()) out.push_back(instead);
  }
  return out;
}

void check_peft_folder(const fs::path& folder, const ModelFiles& archive, const std::vector<AdapterSite>& sites) {
  const auto by_module = sites_by_module(archive, sites);
  std::map<std::string, std::vector<std::string>> of_site;  // path -> modules of the folder
  Errors errors;
  const PeftFolder settings = PeftFolder::read(folder);
  const auto names_here = archive_names(archive);
  for (const auto& [module, values] : settings.modules) {
    if (settings.factor_bias && names_here.count(module + ".bias") == 0 && by_module.count(module) != 0)
      errors.add("lora_bias: ", module, " has no bias in this model that could take that of its factors");
    const auto site = by_module.find(module);
    if (site == by_module.end()) errors.add(module, ": this model has no such weight that can be adapted");
    else of_site[site->second->path].push_back(module);
    if (site != by_module.end() && values.rank > std::min(site->second->weight.size(0), site->second->weight.size(1)))
      errors.add(module, ": rank ", values.rank, " is more than the smaller side of ", site->second->path, " ",
                 site->second->weight.sizes(),
                 "; such factors are not made here. Merge the adapter into the model with PEFT (merge_and_unload), and "
                 "export that");
    if (looks_up_by_itself(module))
      errors.add(module,
                 ": PEFT looks such a table up by another argument than the model does, so the adapter is not what it "
                 "was trained as");
  }
  for (const auto& site : sites) {
    const auto found = of_site.find(site.path);
    if (found == of_site.end() || site.uses < 2) continue;
    std::vector<std::string> names{site.path};
    for (const auto& other : tied_names(archive, site.path)) names.push_back(other);
    // Where the files name a tied table once (a folder leaves lm_head out), its other modules cannot be told.
    const bool named_once = names.size() == 1 && site.kind == SiteKind::embedding;
    const auto needed =
        named_once ? static_cast<size_t>(site.uses) : std::min<size_t>(static_cast<size_t>(site.uses), names.size());
    if (found->second.size() < needed)
      errors.add(join(found->second), ": this weight is tied: ", join(names), " are one, read in ", site.uses,
                 " places, and the folder adapts ", found->second.size(),
                 " of them; an adapter here changes every place. Merge it into the model with PEFT, or train with "
                 "tie_word_embeddings: false");
  }
  errors.throw_if_any(folder.string());
}

namespace {

std::string described(const std::string& pooling, bool normalized) {
  return cat(pooling, " pooling", normalized ? ", normalised" : "");
}

/// The folder's head.safetensors, for a head that reads states so; empty where there is none.
std::map<std::string, torch::Tensor> read_head(const fs::path& folder, const std::string& pooling, bool normalized) {
  const fs::path file = folder / "head.safetensors";
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return {};
  TensorFile read = load_tensors(file);
  const auto found = read.metadata.find("pooling");
  if (found != read.metadata.end()) {
    const bool file_normalized = read.metadata.contains("normalized");
    check(found->second == pooling && file_normalized == normalized, file.string(), ": its head was trained behind ",
          described(found->second, file_normalized), ", the run's stands behind ", described(pooling, normalized),
          "; set model.pooling and model.normalize to the file's");
  }
  return std::move(read.tensors);
}

}  // namespace

std::map<std::string, torch::Tensor> load_peft_state(const fs::path& folder, const ModelFiles& archive,
                                                     const AdaptedModel& model) {
  const torch::NoGradGuard no_grad;
  StateReader reader(folder, archive, model);
  for (const auto& [name, value] : load_tensors(peft_weights_file(folder)).tensors) reader.add(name, value);
  auto out = reader.finish(folder);
  if (const auto& head = model.new_head()) {
    // The file's head has the targets' mean and spread folded in.
    const HeadOptions& options = head->options();
    for (const auto& [name, value] : read_head(folder, to_string(options.pooling), options.normalize)) {
      const torch::Tensor wide = value.to(torch::kFloat64);
      out["head/" + name] = (name == "bias" ? wide - options.shift : wide) / options.scale;
    }
    for (const auto& [name, value] : head->head_parameters()) out.try_emplace("head/" + name, value);
  }
  // The same of a head that our own export put on the model.
  if (const auto own = own_head_of(archive))
    for (const auto& [name, value] : read_head(folder, own->pooling, own->normalized)) {
      const std::string key = cat("base/", own->module, ".", name);
      for (const auto& [kept, unused] : model.trained_base())
        if ("base/" + kept == key) out[key] = value;
    }
  for (const auto& [name, value] : model.trained_base()) out.try_emplace("base/" + name, value.detach());
  return out;
}

}  // namespace deeplora
