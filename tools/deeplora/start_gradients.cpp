#include "start_gradients.h"

#include <torch/torch.h>

#include "session.h"

namespace deeplora {

torch::Tensor StartGradients::at(const AdapterSite& site) {
  if (gradients_.empty()) compute();
  torch::Tensor gradient = gradients_.at(site.path);
  gradients_.at(site.path).reset();
  return gradient;
}

void StartGradients::compute() {
  constexpr size_t kRows = 64;  // a few batches: the leading directions settle quickly
  const auto& examples = session_.train.examples;
  check(!examples.empty(), "compressed starts need training rows");
  LanguageModel& model = session_.model();
  const bool was_training = model.is_training();
  model.eval();
  for (const auto& site : sites_) site.archive_weight().set_requires_grad(true);
  const size_t rows = std::min(kRows, examples.size());
  const auto batch_size = static_cast<size_t>(session_.config.train.batch_size);
  for (size_t start = 0; start < rows; start += batch_size) {
    std::vector<const Example*> chosen;
    for (size_t i = start; i < std::min(rows, start + batch_size); ++i) chosen.push_back(&examples[i]);
    const Batch batch = session_.task().collate(chosen).to(session_.device);
    const torch::Tensor loss = session_.task().loss_sum(model.forward(batch), batch) / static_cast<double>(rows);
    std::vector<torch::Tensor> weights;
    for (const auto& site : sites_) weights.push_back(site.archive_weight());
    const auto gradients = torch::autograd::grad({loss}, weights, {}, std::nullopt, false, /*allow_unused=*/true);
    for (size_t i = 0; i < sites_.size(); ++i) {
      check(gradients[i].defined(), sites_[i].path, ": the loss does not depend on this weight, so a compressed adapter cannot start there");
      const torch::Tensor gradient = sites_[i].fused_path.empty() ? gradients[i] : sites_[i].block.of(gradients[i]).clone();
      auto [place, fresh] = gradients_.try_emplace(sites_[i].path, gradient);
      if (!fresh) place->second.add_(gradient);
    }
  }
  for (const auto& site : sites_) site.archive_weight().set_requires_grad(false);
  model.train(was_training);
}

}  // namespace deeplora
