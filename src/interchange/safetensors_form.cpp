#include <torch/torch.h>

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

/// Weights under their Hugging Face names, tied ones once; a head that no model of transformers has goes to `head`. Of
/// a folder under a head for texts only what `read` names: its own output layer or pooler has no place in the class.
void collect_weights(const ModelFiles& archive, const std::set<std::string>& read, std::vector<NamedTensor>& weights,
                     std::vector<NamedTensor>& head) {
  std::set<std::string> names;
  const std::set<std::string> parameters = parameter_names(archive);
  std::set<std::pair<const void*, std::vector<int64_t>>> places;
  const auto own = own_head_of(archive);
  for (const auto& [name, value] : archive.tensors()) {
    const bool buffer = parameters.count(name) == 0;
    if (buffer && (is_derived(name) || !value.is_floating_point())) continue;
    if (!read.empty() && read.count(name) == 0) continue;
    if (own && (name == own->module + ".weight" || name == own->module + ".bias")) {
      head.push_back({name.substr(own->module.size() + 1), value});
      continue;
    }
    const std::string hf = hugging_face_name(archive, name);
    if (value.numel() > 0 && !places.insert({value.const_data_ptr(), value.sizes().vec()}).second) continue;
    if (names.insert(hf).second) weights.push_back({hf, value});
  }
}

/// The merged weights, and a head that no model of transformers has.
struct MergedWeights {
  std::vector<NamedTensor> weights, head;
  MergeReport report;
};

MergedWeights merged_weights_of(const ModelFiles& archive, const AdaptedModel& adapted) {
  MergedWeights out;
  const auto target = open_model_files(archive.file());
  merge_into(*target, archive, adapted, out.report);
  const bool heads_texts = archive.class_head() || adapted.new_head() || own_head_of(archive);
  collect_weights(*target, heads_texts && !archive.holds_code() ? adapted.base_names() : std::set<std::string>{},
                  out.weights, out.head);
  if (adapted.new_head()) out.head = head_tensors(*adapted.new_head());
  return out;
}

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
  const MergedWeights merged = merged_weights_of(archive, adapted);
  save_tensors(folder / "model.safetensors", merged.weights, {{"format", "pt"}});
  if (!merged.head.empty()) save_tensors(folder / kHeadFile, merged.head, head_metadata(card));
  for (const auto& [name, content] : archive.extras())
    if (!stays_behind(name)) write_file_atomically(folder / name, content);
  if (archive.extra("config.json")) write_file_atomically(folder / "config.json", transformers_config(archive, card));
  if (!info.empty()) write_file_atomically(folder / "deeplora.json", info.dump(2) + "\n");
  write_file_atomically(folder / "README.md", weights_readme(archive, card));
  return merged.report;
}

MergeReport export_safetensors(const ModelFiles& archive, const AdaptedModel& adapted, const fs::path& output,
                               const ModelCard& card, const nlohmann::ordered_json& info) {
  const torch::NoGradGuard no_grad;
  if (output.extension() == ".safetensors") {
    MergedWeights merged = merged_weights_of(archive, adapted);
    for (const auto& [name, value] : merged.head) merged.weights.push_back({cat("head.", name), value});
    save_tensors(output, merged.weights, {{"format", "pt"}});
    return merged.report;
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
