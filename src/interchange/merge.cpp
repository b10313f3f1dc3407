#include "interchange/merge.h"

#include <torch/torch.h>

#include <algorithm>

namespace deeplora {
namespace {

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

MergedValues::MergedValues(const ModelFiles& target, const AdaptedModel& adapted)
    : target_(target),
      adapted_(adapted),
      names_(adapted.merged_names()),
      work_("merging weights", std::ssize(names_)) {}

torch::Tensor MergedValues::of(const std::string& name) {
  const torch::NoGradGuard no_grad;
  work_.advance();
  const torch::Tensor value = adapted_.merged_weight(name);
  const torch::ScalarType type = target_.tensor(name).scalar_type();
  const torch::Tensor out = value.to(type), stored = out.to(value.scalar_type());
  const torch::Tensor lost = at::isfinite(value).logical_and(at::isfinite(stored).logical_not());
  if (lost.any().item<bool>())
    errors_.add(name, ": W and the update sum to ", value.abs().max().item<double>(), ", more than the model's ",
                c10::toString(type), " holds (", lost.sum().item<int64_t>(), " of ", value.numel(), " values)");
  else rounding_ = std::max(rounding_, (stored - value).abs().max().item<double>());
  return out;
}

double MergedValues::rounding() const {
  errors_.throw_if_any(
      "the merged weights cannot be written; export a float32 or bfloat16 archive of the model and train on that");
  return rounding_;
}

void prepare_target(ModelFiles& target, const ModelFiles& files) {
  target.check_same(files);
  if (files.class_head()) put_same_head(target, files);
}

void merge_into(ModelFiles& target, const ModelFiles& files, const AdaptedModel& adapted, MergeReport& report) {
  prepare_target(target, files);
  MergedValues merged(target, adapted);
  for (const auto& name : merged.names()) target.set_tensor(name, merged.of(name));
  report.merged_weights = std::ssize(merged.names());
  report.rounding = merged.rounding();
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
