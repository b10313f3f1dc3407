#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/files.h"
#include "core/log.h"
#include "graph/roles.h"
#include "interchange/export_form.h"
#include "interchange/merge.h"
#include "interchange/peft.h"
#include "lm/targets.h"
#include "model_files/tensor_file.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

/// How PEFT names the factors of a module: an embedding's are kept transposed, delta^T = lora_embedding_B
/// lora_embedding_A.
void add_factors(std::vector<NamedTensor>& tensors, const std::string& module, const LowRankPair& pair,
                 bool embedding) {
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
  if (task == "token-classification") return "TOKEN_CLS";
  return has_head ? "SEQ_CLS" : "FEATURE_EXTRACTION";
}

/// One pair whose update is that of both, the rows of `added` being a block of the weight's: PEFT knows no choice of
/// rows, so B is zero in the others.
void add_block(LowRankPair& pair, const AdapterSite& site, const LowRankPair& added) {
  torch::NoGradGuard no_grad;
  const torch::Tensor b = torch::zeros({site.fused_weight.size(0), added.b.size(1)}, added.b.options());
  if (!pair.b.defined()) pair.scale = added.scale;
  site.block.add_to(b, added.b * (added.scale / pair.scale));
  pair.b = pair.b.defined() ? torch::cat({pair.b, b}, 1) : b;
  pair.a = pair.a.defined() ? torch::cat({pair.a, added.a}, 0) : added.a;
}

/// The same update by a rank of at most the smaller side: PiSSA's difference, and several blocks of one weight, may
/// have more.
LowRankPair narrowed(const LowRankPair& pair) {
  torch::NoGradGuard no_grad;
  const int64_t out = pair.b.size(0), in = pair.a.size(1);
  if (pair.a.size(0) <= std::min(out, in)) return pair;
  const torch::Tensor product = pair.b.matmul(pair.a);
  LowRankPair whole = pair;
  whole.a = in <= out ? torch::eye(in, pair.a.options()) : product;
  whole.b = in <= out ? product : torch::eye(out, pair.b.options());
  return whole;
}

/// Why PEFT can hold nothing of an adapter; empty where it can.
std::string obstacle(const AdapterSite& site, const std::optional<PeftUpdate>& update) {
  if (site.kind == SiteKind::weight) return cat("PEFT knows no weight that ", site.op, " reads");
  if (!site.stored_shape.empty()) return "the weight of a convolution has no place in a PEFT folder";
  if (!update) return "this method's update is not a LoRA pair";
  if (!site.fused_path.empty() && update->magnitude.defined())
    return cat("PEFT keeps a magnitude for every row of ", site.fused_path,
               ", so DoRA at some of its rows has no place in a PEFT folder");
  return "";
}

}  // namespace

std::vector<PeftFactors> peft_factors(const AdaptedModel& model) {
  std::vector<PeftFactors> out;
  std::map<std::string, size_t> fused;
  Errors errors;
  for (const auto& [site, adapter] : model.adapters()) {
    const auto update = adapter->peft_update();
    if (const std::string reason = obstacle(site, update); !reason.empty()) {
      errors.add(site.path, ": ", reason, "; export torchscript or safetensors");
      continue;
    }
    if (site.fused_path.empty()) {
      out.push_back({site, *update});
      continue;
    }
    const auto [place, fresh] = fused.try_emplace(site.fused_path, out.size());
    if (fresh) out.push_back({site, {}});
    add_block(out[place->second].update.pair, site, update->pair);
  }
  errors.throw_if_any();
  for (auto& factors : out) factors.update.pair = narrowed(factors.update.pair);
  return out;
}

namespace {

/// Collects tensors and settings of a folder.
class FolderWriter {
 public:
  explicit FolderWriter(const ModelFiles& archive) : archive_(archive), parameters_(parameter_names(archive)) {}

  void add(const PeftFactors& factors) {
    const AdapterSite& site = factors.site;
    if (const auto own = own_head_of(archive_); own && site.archive_path().starts_with(own->module + ".")) {
      errors_.add(
          site.path,
          ": the head that lies beside the model is none of the base model's, so its adapter has no place in a PEFT ",
          "folder; leave it out of adapter.targets");
      return;
    }
    transposed_ |= site.transposed;
    const bool table = site.kind == SiteKind::embedding;
    std::vector<std::string> names{site.archive_path()};
    // PEFT has factors for every module: a tied weight's are written once for each of its names.
    for (const auto& other : tied_names(archive_, site.archive_path())) names.push_back(other);
    if (table && site.uses > 1 && names.size() == 1) {
      errors_.add(site.path, ": the model reads this table in ", site.uses,
                  " places, but its files name one: PEFT has factors for every module, so ",
                  "the others would go without; leave it out of adapter.targets, or export safetensors");
      return;
    }
    for (const auto& name : names)
      add_module(name, factors, table && guess_role(name, SiteKind::linear) != "lm_head", name == names.front());
  }

  void add_trained(const AdaptedModel& model) {
    std::set<std::string> trained;
    for (const auto& [name, unused] : model.trained_base()) trained.insert(name);
    const auto own = own_head_of(archive_);
    for (const auto& [name, value] : model.trained_base_in_files()) {
      if (own && name.starts_with(own->module + ".")) {
        head_.push_back({name.substr(own->module.size() + 1), value});
        continue;
      }
      add_trained(name, value, trained);
    }
  }

  /// Head that lies beside the archive's own module whether it was trained or not.
  std::vector<NamedTensor> head(const AdaptedModel& model) const {
    if (model.new_head()) return head_tensors(*model.new_head());
    std::vector<NamedTensor> out = head_;
    if (const auto own = own_head_of(archive_); own)
      for (const char* part : {"weight", "bias"}) {
        const bool there = std::any_of(out.begin(), out.end(), [&](const NamedTensor& t) { return t.name == part; });
        const std::string name = cat(own->module, ".", part);
        if (!there && archive_.has(name)) out.push_back({part, archive_.tensor(name)});
      }
    return out;
  }

  void check_nothing_wrong() const { errors_.throw_if_any(); }
  const std::vector<NamedTensor>& tensors() const { return tensors_; }
  const std::vector<std::string>& tied() const { return tied_; }
  bool has_saved_modules() const { return !saved_.empty(); }

  nlohmann::ordered_json settings(const ModelCard& card, bool has_head) const {
    using nlohmann::ordered_json;
    const auto number = [](double value) {
      return value == std::round(value) ? ordered_json(static_cast<int64_t>(value)) : ordered_json(value);
    };
    nlohmann::ordered_json alphas = nlohmann::ordered_json::object();
    for (const auto& [module, alpha] : alphas_) alphas[module] = number(alpha);
    return {
        {"peft_type", "LORA"},
        {"task_type", task_type(card.kind(), has_head)},
        {"base_model_name_or_path", card.base.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(card.base)},
        {"r", rank_},
        {"lora_alpha", number(alpha_)},
        {"lora_dropout", 0.0},
        {"bias", biases_ == Biases::none      ? "none"
                 : biases_ == Biases::adapted ? "lora_only"
                                              : "all"},
        {"fan_in_fan_out", transposed_},
        {"inference_mode", true},
        {"init_lora_weights", true},
        {"use_rslora", false},
        {"use_dora", dora_},
        {"target_modules", modules_},
        {"rank_pattern", ranks_},
        {"alpha_pattern", alphas},
        {"modules_to_save", saved_.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(saved_)}};
  }

 private:
  void add_module(const std::string& name, const PeftFactors& factors, bool embedding, bool first) {
    const std::string module = module_path(hugging_face_name(archive_, name));
    const LowRankPair& pair = factors.update.pair;
    if (looks_up_by_itself(module)) {
      errors_.add(name,
                  ": PEFT would look this table up by another argument than the model does; leave it out of "
                  "adapter.targets, or ",
                  "export torchscript or safetensors");
      return;
    }
    if (factors.update.magnitude.defined()) {
      dora_ = true;
      if (factors.site.kind == SiteKind::embedding && !embedding) {
        errors_.add(name, ": tied to ", factors.site.path,
                    ": PEFT's DoRA scales rows of an output layer and columns of a table, so one weight ",
                    "that is both has no place in a PEFT folder; export torchscript or safetensors");
        return;
      }
      tensors_.push_back({cat(kPeftPrefix, module, ".lora_magnitude_vector"), factors.update.magnitude});
    }
    add_factors(tensors_, module, pair, embedding);
    modules_.push_back(module);
    if (!first) tied_.push_back(module);
    const int64_t r = pair.a.size(0);
    const double alpha = pair.scale * static_cast<double>(r);
    if (rank_ == 0) {
      rank_ = r;
      alpha_ = alpha;
    }
    if (r != rank_) ranks_[module] = r;
    if (alpha != alpha_) alphas_[module] = alpha;
  }

  /// Whole modules are modules_to_save; biases of others lie beside the factors, of adapted modules inside PEFT's
  /// layer.
  void add_trained(const std::string& name, const torch::Tensor& value, const std::set<std::string>& trained) {
    const std::string hf = hugging_face_name(archive_, name), part = hf.substr(hf.rfind('.') + 1);
    const std::string module = hf.substr(0, hf.size() - std::min(hf.size(), part.size() + 1));
    const bool adapted = std::find(modules_.begin(), modules_.end(), module) != modules_.end();
    if (adapted) {
      tensors_.push_back({cat(kPeftPrefix, module, ".base_layer.", part), value});
      if (part == "bias") biases_ = std::max(biases_, Biases::adapted);
      return;
    }
    const std::string whole = whole_module(name, trained);
    if (whole.empty() && part == "bias") {
      tensors_.push_back({kPeftPrefix + hf, value});
      biases_ = Biases::all;
    } else if (whole.empty()) {
      errors_.add(name,
                  " is trained itself, but not all of its module: PEFT keeps whole modules (modules_to_save) or "
                  "biases; export ",
                  "torchscript or safetensors");
    } else {
      tensors_.push_back({kPeftPrefix + hf, value});
      saved_.insert(whole);
    }
  }

  /// The outermost module, by its Hugging Face name, all of whose parameters are trained; empty where there is none.
  std::string whole_module(const std::string& name, const std::set<std::string>& trained) const {
    for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
      const std::string begin = name.substr(0, dot + 1);
      bool all = true;
      for (const auto& [other, unused] : archive_.tensors())
        all &= !other.starts_with(begin) || parameters_.count(other) == 0 || trained.count(other) != 0;
      if (!all) continue;
      const std::string module = hugging_face_name(archive_, name.substr(0, dot));
      if (module.empty() || begin.size() <= archive_.export_info().value("prefix", std::string()).size())
        continue;  // all of the model
      return module;
    }
    return "";
  }

  enum class Biases { none, adapted, all };
  const ModelFiles& archive_;
  const std::set<std::string> parameters_;
  std::vector<NamedTensor> tensors_, head_;
  std::vector<std::string> modules_, tied_;
  std::set<std::string> saved_;
  nlohmann::ordered_json ranks_ = nlohmann::ordered_json::object();
  std::map<std::string, double> alphas_;
  int64_t rank_ = 0;
  double alpha_ = 0;
  bool dora_ = false, transposed_ = false;  // Conv1D: PEFT keeps its factors like those of any linear layer
  Biases biases_ = Biases::none;
  Errors errors_;
};

}  // namespace

void save_peft_folder(const fs::path& folder, const ModelFiles& archive, const AdaptedModel& model,
                      const ModelCard& card) {
  check(!model.adapters().empty(),
        "this run has no adapters (method none or full), so there is nothing to write for PEFT; export torchscript or "
        "safetensors");
  check(!fs::exists(folder), "output ", folder.string(), " exists already; choose another --output");
  FolderWriter writer(archive);
  for (const auto& factors : peft_factors(model)) writer.add(factors);
  writer.add_trained(model);
  writer.check_nothing_wrong();
  const auto head = writer.head(model);
  const auto settings = writer.settings(card, writer.has_saved_modules());
  write_folder_atomically(folder, [&](const fs::path& temporary) {
    std::map<std::string, std::string> metadata{{"format", "pt"}};
    if (!writer.tied().empty()) metadata["tied"] = nlohmann::json(writer.tied()).dump();
    if (card.quantize != "none") metadata["quantize"] = card.quantize;
    if (!card.labels.empty()) metadata[kPeftLabels] = nlohmann::json(card.labels).dump();
    save_tensors(temporary / "adapter_model.safetensors", writer.tensors(), metadata);
    write_file_atomically(temporary / "adapter_config.json", settings.dump(2) + "\n");
    if (!head.empty()) save_tensors(temporary / "head.safetensors", head, head_metadata(card));
    write_file_atomically(temporary / "README.md", peft_readme(archive, card));
  });
}

ExportForm peft_form() {
  return {"the adapter as a folder that PEFT loads", [](const ExportSource& s, const fs::path& output) {
            const std::string ending = output.extension().string();
            check(ending != ".safetensors" && ending != ".pt" && ending != ".bin", "--output ", output.string(),
                  ": a PEFT adapter is a folder; name one without ", ending);
            save_peft_folder(output, s.files, s.adapted, s.card);
            if (s.card.base.empty())
              log_info("the archive does not say which model it was exported from, so adapter_config.json names none ",
                       "(base_model_name_or_path); --base NAME sets it");
            return cat("PEFT adapter, ", s.adapted.adapters().size(), " weights");
          }};
}

}  // namespace deeplora
