// Forward and backward of one step: the gradient of the mean loss over several micro-batches.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "tasks/task.h"
#include "train/data_order.h"

namespace deeplora {

struct StepLoss {
  double sum = 0;         ///< over all micro-batches
  double count = 0;       ///< samples or tokens in it, by Task::loss_count
  int64_t samples = 0;    ///< rows
  std::string bad_rows;   ///< rows (file:line) of the first micro-batch whose loss is NaN or infinite, else empty
  std::string bad_state;  ///< its first inner state that is not finite ("layer 3, attention"), where the model can tell

  double mean() const { return count > 0 ? sum / count : 0.0; }
};

struct StepSetup {
  LanguageModel& model;
  const Task& task;
  torch::Device device = torch::kCPU;
  bool bf16 = false;
  std::function<void()> before_batch;  ///< called before each micro-batch; may be empty
  ProcessGroup* group = nullptr;       ///< processes that share the rows; null: this one takes all
  int64_t batch_size = 0;              ///< most rows of one forward pass, where the step cuts its batches anew
};

/// Adds to the parameters' gradients those of sum(loss_sum) / sum(loss_count) over the micro-batches, so that
/// a step is the same however it is cut into micro-batches, unequal token counts included. A step whose rows
/// hold nothing to predict has zero gradients and is warned about. After a loss that is not finite the
/// remaining micro-batches are left out. With a group, gradients and sum are those of this process's rows, still
/// divided by the count of all: their sum over processes (StepSum) is the step's. Throws Error when the loss does not
/// depend on any trained tensor.
StepLoss accumulate_gradients(const StepSetup& setup, std::span<const Example> train,
                              std::span<const MicroBatch> micro_batches);

}  // namespace deeplora
