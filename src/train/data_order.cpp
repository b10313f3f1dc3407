#include "train/data_order.h"

#include <cmath>

#include "core/error.h"
#include "core/random.h"

namespace deeplora {
namespace {

int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

BatchOrder order_of(const TrainConfig& config) {
  if (!config.shuffle) return BatchOrder::given;
  return config.group_by_length ? BatchOrder::length_grouped : BatchOrder::shuffled;
}

}  // namespace

DataOrder::DataOrder(const TrainConfig& config, std::span<const Example> train, int64_t rows)
    : batch_size_(rows), seed_(config.seed), order_(order_of(config)) {
  check(!train.empty() || config.steps == int64_t{0},
        "there are no training rows; give data.train, or train.steps: 0 to evaluate only");
  for (const Example& example : train) lengths_.push_back(example.tokens());
  const int64_t batches = ceil_divide(static_cast<int64_t>(train.size()), batch_size_);
  steps_per_epoch_ = ceil_divide(batches, config.accumulate);
  const double by_epochs = std::ceil(config.epochs * static_cast<double>(steps_per_epoch_));
  total_steps_ = config.steps.value_or(static_cast<int64_t>(by_epochs));
}

std::vector<MicroBatch> DataOrder::epoch(int64_t number) const {
  return make_batches(lengths_, static_cast<size_t>(batch_size_), order_,
                      stream_seed(static_cast<uint64_t>(seed_), "data"), static_cast<uint64_t>(number));
}

}  // namespace deeplora
