#include "interchange/merge.h"

#include <torch/torch.h>

#include "core/long_work.h"

namespace deeplora {
namespace {

/// Writes W + delta into the files' tensors. Throws Error with every weight that its dtype cannot hold.
double put_merged_weights(ModelFiles& target, const std::vector<NamedTensor>& merged) {
  double rounding = 0;
  Errors errors;
  LongWork work("writing weights", static_cast<int64_t>(merged.size()));
  for (const auto& [name, value] : merged) {
    work.advance();
    target.set_tensor(name, value);
    const torch::Tensor stored = target.tensor(name).to(value.device(), value.scalar_type());
    const torch::Tensor lost = at::isfinite(value).logical_and(at::isfinite(stored).logical_not());
    if (lost.any().item<bool>())
      errors.add(name, ": W and the update sum to ", value.abs().max().item<double>(), ", more than the model's ",
                 c10::toString(target.tensor(name).scalar_type()), " holds (", lost.sum().item<int64_t>(), " of ",
                 value.numel(), " values)");
    else rounding = std::max(rounding, (stored - value).abs().max().item<double>());
  }
  errors.throw_if_any(
      "the merged weights cannot be written; export a float32 or bfloat16 archive of the model and train on that");
  return rounding;
}

/// The head that the run put on the model, for `target` too: in its dtype, and no tensor of the live model's.
void put_same_head(ModelFiles& target, const ModelFiles& files) {
  torch::ScalarType type = torch::kFloat32;
  for (size_t i = target.parameters(); i-- > 0;)
    if (target.tensors()[i].value.is_floating_point()) type = target.tensors()[i].value.scalar_type();
  std::vector<NamedTensor> started;
  for (const auto& [name, value] : files.started())
    started.push_back({name, value.detach().to(torch::kCPU, type, /*non_blocking=*/false, /*copy=*/true)});
  target.put_head(*files.class_head(), std::move(started));
}

}  // namespace

void merge_into(ModelFiles& target, const ModelFiles& files, const AdaptedModel& adapted, MergeReport& report) {
  const auto merged = adapted.merged_weights();
  report.merged_weights = static_cast<int64_t>(merged.size());
  target.check_same(files);
  if (files.class_head()) put_same_head(target, files);
  report.rounding = put_merged_weights(target, merged);
}

std::string said_of_merge(const MergeReport& report) {
  return cat(report.merged_weights, " weights merged, rounding at most ", report.rounding);
}

ModelOutput ArchiveModel::forward(const Batch& batch) {
  const torch::Tensor out = forward_(batch);
  return out.dim() == 3 && !logits_ ? ModelOutput{.hidden = out, .logits = {}}
                                    : ModelOutput{.hidden = {}, .logits = out};
}

std::vector<NamedTensor> ArchiveModel::base_parameters() { return files_->tensors(); }

}  // namespace deeplora
