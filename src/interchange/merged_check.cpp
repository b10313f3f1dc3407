#include "interchange/merged_check.h"

#include <torch/torch.h>

#include "core/long_work.h"
#include "lm/parity.h"
#include "model_files/own_head.h"

namespace deeplora {
namespace {

/// Rows of several lengths, so that a pooling that reads padding is found out. Cells that are padding hold `padding`,
/// and no others.
Batch rows_of_several_lengths(const CodeFiles& archive, LanguageModel& live, std::optional<int64_t> padding) {
  Batch batch = probe_batch(archive, live, /*tokens=*/0, /*rows=*/9);
  if (!padding || !batch.input_ids.defined()) return batch;
  const torch::Tensor other = batch.input_ids.masked_fill(batch.input_ids == *padding, *padding == 1 ? 2 : 1);
  batch.input_ids = torch::where(batch.attention_mask == 0, torch::full_like(other, *padding), other);
  return batch;
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

LiveProbe probe_live(const CodeFiles& archive, AdaptedModel& adapted, std::optional<int64_t>& padding) {
  LanguageModel& live = adapted.model();
  const bool was_training = live.is_training();
  live.eval();
  if (!live.takes_padding()) padding.reset();  // its rows have none
  LiveProbe out{.batch = rows_of_several_lengths(archive, live, padding), .expected = {}};
  const torch::Device device =
      archive.tensors().empty() ? torch::Device(torch::kCPU) : archive.tensors().front().value.device();
  out.expected = output_of(live.forward(out.batch.to(device)));
  live.train(was_training);
  return out;
}

void check_merged(const CodeFiles& written, const ArchiveInterface& interface, const LiveProbe& probe,
                  const CodeFiles& archive, const AdaptedModel& adapted, MergeReport& report) {
  const LongWork work("comparing the written model with the run");
  const torch::Tensor found = ArchiveForward(written, interface)(probe.batch);
  check(found.sizes() == probe.expected.sizes(), "the merged model gives shape ", found.sizes(), ", the live model ",
        probe.expected.sizes());
  report.difference = difference_of(found, probe.expected, adapted.new_head().get(), output_mask(probe.batch));
  check(report.difference <= dtype_tolerance(archive, 3e-2, 2e-1),
        "the merged model's output differs from the live model's by ", report.difference,
        " (relative); nothing was written");
}

std::map<std::string, std::string> merged_extras(const CodeFiles& archive, const nlohmann::ordered_json& info,
                                                 const std::optional<StatesEnd>& end, const std::string& head_module,
                                                 const std::string& base) {
  auto extras = archive.extras();
  extras["deeplora.json"] = info.dump(2);
  if (const auto state = info.find("task_state");
      state != info.end() && state->contains("labels") && extras.count("config.json"))
    extras["config.json"] = with_labels(extras["config.json"], (*state)["labels"].get<std::vector<std::string>>());
  if (!end) return extras;
  nlohmann::json about = archive.export_info().root;
  about["prefix"] = base + archive.export_info().value("prefix", std::string());
  about["task"] = !end->head ? "embedding" : end->form.pooling == Pooling::none ? kTokenClassifier : kClassifier;
  about["output"] = end->head ? "logits" : "vectors";
  if (end->head) {
    about["num_labels"] = end->head->weight.size(0);
    about[kHeadInfo] = {{"module", head_module}, {"pooling", to_string(end->form.pooling)}};
    if (end->form.normalize) about[kHeadInfo]["normalized"] = true;
  }
  extras["export.json"] = about.dump(2);
  return extras;
}

}  // namespace deeplora
