#include <torch/torch.h>

#include "core/files.h"
#include "interchange/export_form.h"
#include "interchange/head_module.h"
#include "interchange/merge.h"
#include "lm/parity.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

/// Rows of several lengths, so that a pooling that reads padding is found out. Cells that are padding hold `padding`,
/// and no others.
Batch rows_of_several_lengths(const TorchScriptArchive& archive, LanguageModel& live, std::optional<int64_t> padding) {
  Batch batch = probe_batch(archive, live, /*tokens=*/0, /*rows=*/9);
  if (!padding) return batch;
  const torch::Tensor other = batch.input_ids.masked_fill(batch.input_ids == *padding, *padding == 1 ? 2 : 1);
  batch.input_ids = torch::where(batch.attention_mask == 0, torch::full_like(other, *padding), other);
  return batch;
}

/// What the run put on the archive's states; nothing where that is their own end.
std::optional<StatesEnd> end_of(AdaptedModel& adapted, torch::ScalarType outputs) {
  if (const ModelWithHead* head = adapted.new_head().get())
    return StatesEnd{.form = {.pooling = head->options().pooling, .normalize = head->options().normalize},
                     .head = fold(*head, outputs)};
  if (const PooledModel* pooled = pooled_model(adapted.model()))
    return StatesEnd{.form = pooled->form(), .head = std::nullopt, .type = outputs};
  return std::nullopt;
}

/// In the archive, the archive again with its base one module further in.
std::string info_of_wrapped(const TorchScriptArchive& archive, const StatesEnd& end) {
  nlohmann::json info = archive.export_info().root;
  info["prefix"] = cat(kBaseModule, ".", archive.export_info().value("prefix", std::string()));
  info["task"] = end.head ? "classifier" : "embedding";
  info["output"] = end.head ? "logits" : "vectors";
  if (!end.head) return info.dump(2);
  info["num_labels"] = end.head->weight.size(0);
  info[kHeadInfo] = {{"module", kHeadModule}, {"pooling", to_string(end.form.pooling)}};
  if (end.form.normalize) info[kHeadInfo]["normalized"] = true;
  return info.dump(2);
}

/// Largest difference, relative to the largest logit; of a regression, in units of the targets' spread, whatever their
/// mean is.
double difference_of(const torch::Tensor& found, const torch::Tensor& expected, const ModelWithHead* head,
                     const torch::Tensor& mask) {
  if (!head || (head->options().shift == 0 && head->options().scale == 1))
    return relative_difference(found, expected, mask);
  const auto standard = [&](const torch::Tensor& x) {
    return (x.to(torch::kCPU, torch::kFloat64) - head->options().shift) / head->options().scale;
  };
  const torch::Tensor a = standard(found), b = standard(expected);
  return (a - b).abs().max().item<double>() / std::max(1.0, b.abs().max().item<double>());
}

}  // namespace

MergeReport export_torchscript(const TorchScriptArchive& archive, const ArchiveInterface& interface,
                               AdaptedModel& adapted, const nlohmann::ordered_json& info, const fs::path& output,
                               std::optional<int64_t> padding) {
  torch::NoGradGuard no_grad;
  LanguageModel& live = adapted.model();
  const ModelWithHead* head = adapted.new_head().get();
  const bool was_training = live.is_training();
  live.eval();
  if (!live.takes_padding()) padding.reset();  // its rows have none
  const Batch probe = rows_of_several_lengths(archive, live, padding);
  const torch::Device device =
      archive.tensors().empty() ? torch::Device(torch::kCPU) : archive.tensors().front().value.device();
  const torch::Tensor expected = output_of(live.forward(probe.to(device)));
  live.train(was_training);

  MergeReport report;
  // Devices in its code are those of the file, but on a processor, which has no others.
  using CodeDevices = TorchScriptArchive::CodeDevices;
  const CodeDevices devices = device.is_cpu() ? CodeDevices::follow : CodeDevices::stay;
  TorchScriptArchive target = TorchScriptArchive::load(archive.file(), torch::kCPU, devices);
  merge_into(target, archive, adapted, report);
  auto extras = archive.extras();
  extras["deeplora.json"] = info.dump(2);
  if (const auto state = info.find("task_state");
      state != info.end() && state->contains("labels") && extras.count("config.json"))
    extras["config.json"] = with_labels(extras["config.json"], (*state)["labels"].get<std::vector<std::string>>());
  ArchiveInterface merged_interface = interface;
  torch::jit::Module module = target.module();
  if (const auto end = end_of(adapted, expected.scalar_type())) {
    if (end->head) report.rounding = std::max(report.rounding, end->head->rounding);
    module = module_around(target, interface, *end, padding, probe);
    extras["export.json"] = info_of_wrapped(archive, *end);
    merged_interface.output.clear();
  }
  write_file_atomically(output, [&](const fs::path& temporary) {
    TorchScriptArchive::save(module, extras, temporary);
    const TorchScriptArchive written = TorchScriptArchive::load(temporary);
    const torch::Tensor found = ArchiveForward(written, merged_interface)(probe);
    check(found.sizes() == expected.sizes(), "the merged model gives shape ", found.sizes(), ", the live model ",
          expected.sizes());
    report.difference = difference_of(found, expected, head, output_mask(probe));
    check(report.difference <= dtype_tolerance(archive, 3e-2, 2e-1),
          "the merged model's output differs from the live model's by ", report.difference,
          " (relative); nothing was written");
  });
  return report;
}

ExportForm torchscript_form() {
  return {"the archive's own code, names, dtypes and extra files with the merged weights; a new head beside it",
          [](const ExportSource& s, const fs::path& output) {
            const std::string ending = output.extension().string();
            check(ending == ".pt" || ending == ".pth" || ending == ".ts" || ending == ".jit", "--output ",
                  output.string(), ": a TorchScript model is a file; name it with .pt");
            const MergeReport report = export_torchscript(archive_of(s.files, "export --to torchscript"), s.interface,
                                                          s.adapted, s.info, output, s.padding);
            return cat(said_of_merge(report), "; reloaded, equals the adapted model to ", report.difference);
          }};
}

}  // namespace deeplora
