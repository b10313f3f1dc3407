#include "interchange/merge.h"

#include <torch/torch.h>

#include <set>

#include "core/files.h"
#include "interchange/head_module.h"
#include "interchange/names.h"
#include "lm/parity.h"
#include "model_files/registration.h"
#include "model_files/tensor_file.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

/// Rows of several lengths, so that a pooling that reads padding is found out. Cells that are padding hold `padding`, and no others.
Batch rows_of_several_lengths(const TorchScriptArchive& archive, LanguageModel& live, std::optional<int64_t> padding) {
  Batch batch = probe_batch(archive, live, /*tokens=*/0, /*rows=*/9);
  if (!padding) return batch;
  const torch::Tensor other = batch.input_ids.masked_fill(batch.input_ids == *padding, *padding == 1 ? 2 : 1);
  batch.input_ids = torch::where(batch.attention_mask == 0, torch::full_like(other, *padding), other);
  return batch;
}

/// In the archive, the archive again with its base one module further in.
std::string info_of_wrapped(const TorchScriptArchive& archive, const ModelWithHead& head) {
  nlohmann::json info = archive.export_info().root;
  info["prefix"] = cat(kBaseModule, ".", archive.export_info().value("prefix", std::string()));
  info["task"] = "classifier";
  info["output"] = "logits";
  info["num_labels"] = head.options().outputs;
  info[kHeadInfo] = {{"module", kHeadModule}, {"pooling", to_string(head.options().pooling)}};
  return info.dump(2);
}

/// Largest difference, relative to the largest logit; of a regression, in units of the targets' spread, whatever their mean is.
double difference_of(const torch::Tensor& found, const torch::Tensor& expected, const ModelWithHead* head, const torch::Tensor& mask) {
  if (!head || (head->options().shift == 0 && head->options().scale == 1)) return relative_difference(found, expected, mask);
  const auto standard = [&](const torch::Tensor& x) { return (x.to(torch::kCPU, torch::kFloat64) - head->options().shift) / head->options().scale; };
  const torch::Tensor a = standard(found), b = standard(expected);
  return (a - b).abs().max().item<double>() / std::max(1.0, b.abs().max().item<double>());
}

/// Writes W + delta into the files' tensors. Throws Error with every weight that its dtype cannot hold.
double put_merged_weights(ModelFiles& target, const std::vector<NamedTensor>& merged) {
  double rounding = 0;
  Errors errors;
  for (const auto& [name, value] : merged) {
    target.set_tensor(name, value);
    const torch::Tensor stored = target.tensor(name).to(value.device(), value.scalar_type());
    const torch::Tensor lost = at::isfinite(value).logical_and(at::isfinite(stored).logical_not());
    if (lost.any().item<bool>())
      errors.add(name, ": W and the update sum to ", value.abs().max().item<double>(), ", more than the model's ",
                 c10::toString(target.tensor(name).scalar_type()), " holds (", lost.sum().item<int64_t>(), " of ", value.numel(), " values)");
    else
      rounding = std::max(rounding, (stored - value).abs().max().item<double>());
  }
  errors.throw_if_any("the merged weights cannot be written; export a float32 or bfloat16 archive of the model and train on that");
  return rounding;
}

/// Puts the merged weights into `target`, the same files opened once more.
void merge_into(ModelFiles& target, const ModelFiles& files, const AdaptedModel& adapted, MergeReport& report) {
  const auto merged = adapted.merged_weights();
  report.merged_weights = static_cast<int64_t>(merged.size());
  target.check_same(files);
  report.rounding = put_merged_weights(target, merged);
}

}  // namespace

MergeReport export_torchscript(const TorchScriptArchive& archive, const ArchiveInterface& interface, AdaptedModel& adapted,
                               const nlohmann::ordered_json& info, const fs::path& output, std::optional<int64_t> padding) {
  torch::NoGradGuard no_grad;
  LanguageModel& live = adapted.model();
  const ModelWithHead* head = adapted.new_head().get();
  const bool was_training = live.is_training();
  live.eval();
  if (!live.takes_padding()) padding.reset();  // its rows have none
  const Batch probe = rows_of_several_lengths(archive, live, padding);
  const torch::Device device = archive.tensors().empty() ? torch::Device(torch::kCPU) : archive.tensors().front().value.device();
  const torch::Tensor expected = output_of(live.forward(probe.to(device)));
  live.train(was_training);

  MergeReport report;
  TorchScriptArchive target = TorchScriptArchive::load(archive.file());
  merge_into(target, archive, adapted, report);
  auto extras = archive.extras();
  extras["deeplora.json"] = info.dump(2);
  ArchiveInterface merged_interface = interface;
  torch::jit::Module module = target.module();
  if (head) {
    const FoldedHead folded = fold(*head, expected.scalar_type());
    report.rounding = std::max(report.rounding, folded.rounding);
    module = module_with_head(target, interface, *head, folded, padding, probe);
    extras["export.json"] = info_of_wrapped(archive, *head);
    merged_interface.output.clear();
  }
  write_file_atomically(output, [&](const fs::path& temporary) {
    TorchScriptArchive::save(module, extras, temporary);
    const TorchScriptArchive written = TorchScriptArchive::load(temporary);
    const torch::Tensor found = ArchiveForward(written, merged_interface)(probe);
    check(found.sizes() == expected.sizes(), "the merged model gives shape ", found.sizes(), ", the live model ", expected.sizes());
    report.difference = difference_of(found, expected, head, output_mask(probe));
    check(report.difference <= dtype_tolerance(archive, 3e-2, 2e-1), "the merged model's output differs from the live model's by ", report.difference,
          " (relative); nothing was written");
  });
  return report;
}

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

ModelOutput ArchiveModel::forward(const Batch& batch) {
  const torch::Tensor out = forward_(batch);
  return out.dim() == 3 && !logits_ ? ModelOutput{.hidden = out, .logits = {}} : ModelOutput{.hidden = {}, .logits = out};
}

std::vector<NamedTensor> ArchiveModel::base_parameters() {
  return archive_.tensors();
}

}  // namespace deeplora
