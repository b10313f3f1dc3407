#include <torch/torch.h>

#include <map>
#include <set>

#include "core/files.h"
#include "interchange/export_form.h"
#include "interchange/head_module.h"
#include "interchange/merge.h"
#include "interchange/names.h"
#include "model_files/own_head.h"
#include "model_files/registration.h"
#include "model_files/tensor_file.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

/// Buffers that transformers makes again by itself: they are in no file of its own.
bool is_derived(const std::string& name) {
  for (const char* end : {"inv_freq", "position_ids", "token_type_ids", "attn.bias", "attention.bias", "masked_bias"})
    if (name.ends_with(end)) return true;
  return false;
}

/// A weight of a merged file: what the files hold, and their name of it.
struct FileWeight {
  std::string name;  ///< transformers'
  torch::Tensor value;
  std::string of;
};

/// Weights under their Hugging Face names, tied ones once; a head that no model of transformers has goes to `head`. Of
/// a folder under a head for texts only what `read` names: its own output layer or pooler has no place in the class.
void collect_weights(const ModelFiles& archive, const std::set<std::string>& read, std::vector<FileWeight>& weights,
                     std::vector<FileWeight>& head) {
  std::set<std::string> names;
  const std::set<std::string> parameters = parameter_names(archive);
  std::set<std::pair<const void*, std::vector<int64_t>>> places;
  const auto own = own_head_of(archive);
  for (const auto& [name, value] : archive.tensors()) {
    const bool buffer = parameters.count(name) == 0;
    if (buffer && (is_derived(name) || !value.is_floating_point())) continue;
    if (!read.empty() && read.count(name) == 0) continue;
    if (own && (name == own->module + ".weight" || name == own->module + ".bias")) {
      head.push_back({name.substr(own->module.size() + 1), value, name});
      continue;
    }
    const std::string hf = hugging_face_name(archive, name);
    if (value.numel() > 0 && !places.insert({value.const_data_ptr(), value.sizes().vec()}).second) continue;
    if (names.insert(hf).second) weights.push_back({hf, value, name});
  }
}

/// The merged weights, and a head that no model of transformers has. A weight is merged when it is written, so that one
/// of them is in memory, not all.
class MergedFiles {
 public:
  MergedFiles(const ModelFiles& archive, const AdaptedModel& adapted)
      : source_(archive), target_(open_model_files(archive.file())), values_(*target_, adapted) {
    target_->leave_what_is_checked();
    prepare_target(*target_, archive);
    const bool heads_texts = archive.class_head() || adapted.new_head() || own_head_of(archive);
    collect_weights(*target_, heads_texts && !archive.holds_code() ? adapted.base_names() : std::set<std::string>{},
                    weights_, head_);
    merge_what_is_shared();
    if (!adapted.new_head()) return;
    head_.clear();
    for (const auto& [name, value] : head_tensors(*adapted.new_head())) head_.push_back({name, value, ""});
  }

  /// In folders a head's file stands beside the weights'.
  void write(const fs::path& folder, const std::map<std::string, std::string>& about_head) {
    save(folder / "model.safetensors", weights_, {{"format", "pt"}});
    if (!head_.empty()) save(folder / kHeadFile, head_, about_head);
  }
  void write_one(const fs::path& file) {
    std::vector<FileWeight> all = weights_;
    for (const auto& [name, value, of] : head_) all.push_back({cat("head.", name), value, of});
    save(file, all, {{"format", "pt"}});
  }

  /// Behind the last file. Throws Error with every weight that its dtype cannot hold.
  MergeReport report() const {
    MergeReport out;
    out.merged_weights = std::ssize(values_.names());
    out.rounding = values_.rounding();
    return out;
  }

 private:
  /// Weights whose memory several names share are merged there, at once: any of the names may be the file's.
  void merge_what_is_shared() {
    for (const auto& [unused, value] : target_->tensors()) ++names_at_[value.storage().data()];
    for (const auto& name : values_.names())
      if (names_at_[target_->tensor(name).storage().data()] > 1) target_->set_tensor(name, values_.of(name));
      else one_by_one_.insert(name);
  }

  void save(const fs::path& file, const std::vector<FileWeight>& weights,
            const std::map<std::string, std::string>& metadata) {
    std::vector<NamedTensor> forms;
    for (const auto& [name, value, unused] : weights) forms.push_back({name, value});
    size_t turns = 0;
    torch::Tensor before;
    save_tensors(file, forms, metadata, [&](size_t i) {
      const std::string& name = weights[i].of;
      if (before.defined()) let_go(before);
      before = forms[i].value;
      const bool merged = one_by_one_.count(name) != 0;
      const torch::Tensor value = merged ? values_.of(name) : before;
      if (merged && source_.stored()) source_.stored()->take_over(source_.tensor(name));  // or gives back its pages
      if (++turns == weights.size()) values_.rounding();  // throws while the file has no name yet
      return value;
    });
  }
  void let_go(const torch::Tensor& value) const {
    const auto names = names_at_.find(value.storage().data());
    if (target_->stored() && names != names_at_.end() && names->second == 1) target_->stored()->let_go(value);
  }

  const ModelFiles& source_;
  std::shared_ptr<ModelFiles> target_;
  MergedValues values_;
  std::map<const void*, int> names_at_;  ///< how many tensors of the target share a memory
  std::set<std::string> one_by_one_;
  std::vector<FileWeight> weights_, head_;
};

/// Files of the model that say nothing of the merged one: what wrote them, and modules of sentence-transformers that
/// are no part of it.
bool stays_behind(const std::string& name) {
  for (const char* other : {"export.json", "deeplora.json", "modules.json", "config_sentence_transformers.json",
                            "sentence_bert_config.json"})
    if (name == other) return true;
  return fs::path(name).filename() != name;  // never outside the folder
}

}  // namespace

std::vector<NamedTensor> head_tensors(const ModelWithHead& head) {
  const FoldedHead folded =
      fold(head, head.options().shift == 0 && head.options().scale == 1 ? torch::kFloat32 : torch::kFloat64);
  return {{"weight", folded.weight}, {"bias", folded.bias}};
}

MergeReport write_merged_folder(const fs::path& folder, const ModelFiles& archive, const AdaptedModel& adapted,
                                const ModelCard& card, const nlohmann::ordered_json& info) {
  const torch::NoGradGuard no_grad;
  MergedFiles merged(archive, adapted);
  merged.write(folder, head_metadata(card));
  const MergeReport report = merged.report();
  for (const auto& [name, content] : archive.extras())
    if (!stays_behind(name)) write_file_atomically(folder / name, content);
  if (archive.extra("config.json")) write_file_atomically(folder / "config.json", transformers_config(archive, card));
  if (!info.empty()) write_file_atomically(folder / "deeplora.json", info.dump(2) + "\n");
  write_file_atomically(folder / "README.md", weights_readme(archive, card));
  return report;
}

MergeReport export_safetensors(const ModelFiles& archive, const AdaptedModel& adapted, const fs::path& output,
                               const ModelCard& card, const nlohmann::ordered_json& info) {
  const torch::NoGradGuard no_grad;
  if (output.extension() == ".safetensors") {
    MergedFiles merged(archive, adapted);
    merged.write_one(output);
    return merged.report();
  }
  MergeReport report;
  write_folder_atomically(
      output, [&](const fs::path& folder) { report = write_merged_folder(folder, archive, adapted, card, info); });
  return report;
}

ExportForm safetensors_form() {
  return {
      "merged weights under Hugging Face names: a folder that transformers opens, or one file where the output ends in "
      ".safetensors",
      [](const ExportSource& s, const fs::path& output) {
        if (!s.card.embeds || s.card.pooling.empty() || output.extension() == ".safetensors")
          return said_of_merge(export_safetensors(s.files, s.adapted, output, s.card, s.info));
        MergeReport report;  // without its pooling and normalisation the folder's vectors would be others
        write_folder_atomically(output, [&](const fs::path& folder) {
          report = write_merged_folder(folder, s.files, s.adapted, s.card, s.info);
          add_sentence_modules(folder, s);
        });
        return said_of_merge(report);
      }};
}

}  // namespace deeplora
