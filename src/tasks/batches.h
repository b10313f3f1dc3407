// Examples through a model, batch by batch.
#pragma once

#include <functional>

#include "tasks/task.h"

namespace deeplora {

/// Runs examples in batches of similar length, in eval mode and without gradients, and gives take() each batch's places
/// in `examples` and its logits (float64, CPU). With a group only the batches of this process. take() must not keep the
/// places.
void each_batch(const Task& task, LanguageModel& model, std::span<const Example* const> examples,
                const EvaluationOptions& options,
                const std::function<void(std::span<const size_t> places, const torch::Tensor& logits)>& take);

}  // namespace deeplora
