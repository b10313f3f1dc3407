#include "train/train_step.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "lm/autocast.h"
#include "train/distributed.h"

namespace deeplora {
namespace {

std::vector<const Example*> rows_of(std::span<const Example> train, const MicroBatch& batch) {
  std::vector<const Example*> out;
  for (const size_t row : batch) out.push_back(&train[row]);
  return out;
}

std::string sources_of(const std::vector<const Example*>& rows) {
  std::vector<std::string> out;
  for (const Example* row : rows) out.push_back(row->source);
  return join(out, ", ", 4);
}

/// Replaces the step's batches by those of this process.
void take_share(const StepSetup& setup, std::span<const Example> train, std::span<const MicroBatch> micro_batches,
                std::vector<std::vector<const Example*>>& rows, std::vector<Batch>& batches) {
  rows.clear();
  batches.clear();
  for (const MicroBatch& batch :
       share_of_step(micro_batches, setup.batch_size, setup.group->rank(), setup.group->size())) {
    rows.push_back(rows_of(train, batch));
    batches.push_back(setup.task.collate(rows.back()));
  }
}

/// "" where all are finite or the model has no names for them.
std::string first_bad_state(const StepSetup& setup, const Batch& batch) {
  const torch::NoGradGuard no_grad;
  const Autocast autocast(setup.device, setup.bf16);
  for (const auto& [name, state] : setup.model.checkpoints(batch))
    if (!torch::isfinite(state).all().item<bool>()) return name;
  return "";
}

torch::Tensor loss_of(const StepSetup& setup, const Batch& batch) {
  const Autocast autocast(setup.device, setup.bf16);
  return setup.task.loss_of(setup.model, batch);
}

/// Every micro-batch of rows that depend on each other is computed by all processes together.
StepLoss accumulate_jointly(const StepSetup& setup, std::span<const Example> train,
                            std::span<const MicroBatch> micro_batches) {
  StepLoss loss;
  for (const MicroBatch& batch : micro_batches) loss.samples += static_cast<int64_t>(batch.size());
  loss.count = static_cast<double>(loss.samples);
  for (const MicroBatch& batch : micro_batches) {
    if (setup.before_batch) setup.before_batch();
    const auto rows = rows_of(train, batch);
    const double value = setup.task.backward_jointly({.model = setup.model,
                                                      .rows = rows,
                                                      .device = setup.device,
                                                      .bf16 = setup.bf16,
                                                      .batch_size = setup.batch_size,
                                                      .divisor = loss.count,
                                                      .group = setup.group});
    const bool speaks = !setup.group || setup.group->leads();  // StepSum adds up what the processes say
    if (speaks) loss.sum += value;
    if (std::isfinite(value)) continue;
    if (speaks) loss.bad_rows = sources_of(rows);
    break;
  }
  return loss;
}

}  // namespace

StepLoss accumulate_gradients(const StepSetup& setup, std::span<const Example> train,
                              std::span<const MicroBatch> micro_batches) {
  if (setup.task.joint()) return accumulate_jointly(setup, train, micro_batches);
  StepLoss loss;
  std::vector<std::vector<const Example*>> rows;
  std::vector<Batch> batches;
  double second_count = 0;
  for (const MicroBatch& micro_batch : micro_batches) {
    rows.push_back(rows_of(train, micro_batch));
    batches.push_back(setup.task.collate(rows.back()));
    loss.count += setup.task.loss_count(batches.back());
    second_count += setup.task.second_count(batches.back());
    loss.samples += static_cast<int64_t>(rows.back().size());
  }
  if (setup.group) take_share(setup, train, micro_batches, rows, batches);
  if (loss.count == 0)
    log_warning("nothing to predict in ", sources_of(rows_of(train, micro_batches.front())),
                ": longer than data.max_length?");
  const double divisor = loss.count > 0 ? loss.count : 1.0;
  for (size_t i = 0; i < batches.size(); ++i) {
    if (setup.before_batch) setup.before_batch();
    if (second_count > 0) batches[i].balance = loss.count / second_count;
    const torch::Tensor sum = loss_of(setup, batches[i].to(setup.device));
    check(sum.requires_grad(),
          "the loss does not depend on any trained tensor; check adapter.targets and model.output");
    (sum / divisor).backward();
    const double value = sum.item<double>();  // a GPU has the way back to do meanwhile
    loss.sum += value;
    if (std::isfinite(value)) continue;
    loss.bad_rows = sources_of(rows[i]);
    loss.bad_state = first_bad_state(setup, batches[i].to(setup.device));
    break;
  }
  return loss;
}

}  // namespace deeplora
