#include "tasks/batches.h"

#include <torch/torch.h>

#include <algorithm>
#include <numeric>

#include "core/long_work.h"
#include "lm/autocast.h"

namespace deeplora {

void each_batch(const Task& task, LanguageModel& model, std::span<const Example* const> examples,
                const EvaluationOptions& options,
                const std::function<void(std::span<const size_t> places, const torch::Tensor& logits)>& take) {
  torch::NoGradGuard no_grad;
  const Autocast autocast(options.device, options.bf16);
  const bool was_training = model.is_training();
  model.eval();
  std::vector<size_t> order(examples.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return examples[a]->input_ids.size() > examples[b]->input_ids.size(); });
  const auto rows = static_cast<size_t>(
      options.group ? std::min(options.batch_size, options.group->share(static_cast<int64_t>(order.size())))
                    : options.batch_size);
  LongWork work("rows through the model", static_cast<int64_t>(order.size()));
  for (size_t start = 0; start < order.size(); start += rows) {
    const std::span<const size_t> places = std::span(order).subspan(start, std::min(rows, order.size() - start));
    work.advance(static_cast<int64_t>(places.size()));
    if (!is_mine(options.group, start / rows)) continue;
    std::vector<const Example*> chosen;
    for (const size_t place : places) chosen.push_back(examples[place]);
    const ModelOutput out = model.forward(task.collate(chosen).to(options.device));
    take(places, out.logits.to(torch::kCPU, torch::kFloat64));
  }
  model.train(was_training);
}

}  // namespace deeplora
