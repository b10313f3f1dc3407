// Which rows make up which step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tasks/task.h"
#include "text/sampling.h"
#include "train/trainer.h"

namespace deeplora {

/// Rows of one micro-batch, as positions in the training set.
using MicroBatch = std::vector<size_t>;

/// The order of rows in every epoch and the length of the run. The same configuration and lengths give the
/// same order.
class DataOrder {
 public:
  /// `rows`: of one micro-batch (Task::rows_of_batch). Throws Error when there is nothing to train on although steps
  /// are asked for.
  DataOrder(const TrainConfig& config, std::span<const Example> train, int64_t rows);

  int64_t total_steps() const { return total_steps_; }
  /// A step takes `accumulate` micro-batches, the last one of an epoch what is left.
  int64_t steps_per_epoch() const { return steps_per_epoch_; }
  /// Every row once, in micro-batches of `rows`; the smaller rest is a batch too.
  std::vector<MicroBatch> epoch(int64_t number) const;

 private:
  int64_t batch_size_, seed_;
  BatchOrder order_;
  std::vector<int64_t> lengths_;
  int64_t steps_per_epoch_ = 0, total_steps_ = 0;
};

}  // namespace deeplora
