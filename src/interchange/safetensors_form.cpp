#include <torch/torch.h>

#include <set>

#include "core/files.h"
#include "interchange/export_form.h"
#include "interchange/head_module.h"
#include "interchange/merge.h"
#include "interchange/names.h"
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

/// Weights under their Hugging Face names, tied ones once; a head that no model of transformers has goes to `head`.
void collect_weights(const ModelFiles& archive, std::vector<NamedTensor>& weights, std::vector<NamedTensor>& head) {
  std::set<std::string> names;
  const std::set<std::string> parameters = parameter_names(archive);
  std::set<std::pair<const void*, std::vector<int64_t>>> places;
  const std::string head_prefix = own_head_of(archive) ? own_head_of(archive)->module + "." : "";
  for (const auto& [name, value] : archive.tensors()) {
    const bool buffer = parameters.count(name) == 0;
    if (buffer && (is_derived(name) || !value.is_floating_point())) continue;
    if (!head_prefix.empty() && name.starts_with(head_prefix)) {
      head.push_back({name.substr(head_prefix.size()), value});
      continue;
    }
    const std::string hf = hugging_face_name(archive, name);
    if (value.numel() > 0 && !places.insert({value.const_data_ptr(), value.sizes().vec()}).second) continue;
    if (names.insert(hf).second) weights.push_back({hf, value});
  }
}

}  // namespace

std::vector<NamedTensor> head_tensors(const ModelWithHead& head) {
  const FoldedHead folded = fold(head, head.options().shift == 0 && head.options().scale == 1 ? torch::kFloat32 : torch::kFloat64);
  return {{"weight", folded.weight}, {"bias", folded.bias}};
}

MergeReport export_safetensors(const ModelFiles& archive, const AdaptedModel& adapted, const fs::path& output, const ModelCard& card) {
  torch::NoGradGuard no_grad;
  MergeReport report;
  const auto target = open_model_files(archive.file());
  merge_into(*target, archive, adapted, report);
  std::vector<NamedTensor> weights, head;
  collect_weights(*target, weights, head);
  if (adapted.new_head()) head = head_tensors(*adapted.new_head());
  if (output.extension() == ".safetensors") {
    for (const auto& [name, value] : head) weights.push_back({cat("head.", name), value});
    save_tensors(output, weights, {{"format", "pt"}});
    return report;
  }
  write_folder_atomically(output, [&](const fs::path& folder) {
    save_tensors(folder / "model.safetensors", weights, {{"format", "pt"}});
    if (!head.empty()) save_tensors(folder / "head.safetensors", head, head_metadata(card));
    for (const auto& [name, content] : archive.extras())
      if (fs::path(name).filename() == name && name != "export.json" && name != "deeplora.json")  // never outside the folder
        write_file_atomically(folder / name, content);
    if (archive.extra("config.json")) write_file_atomically(folder / "config.json", transformers_config(archive, card));
    write_file_atomically(folder / "README.md", weights_readme(archive, card));
  });
  return report;
}

ExportForm safetensors_form() {
  return {"merged weights under Hugging Face names: a folder that transformers opens, or one file where the output ends in .safetensors",
          [](const ExportSource& s, const fs::path& output) { return said_of_merge(export_safetensors(s.files, s.adapted, output, s.card)); }};
}

}  // namespace deeplora
