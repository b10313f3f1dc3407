#include "start_gradients.h"

#include <torch/torch.h>

#include "core/long_work.h"
#include "session.h"

namespace deeplora {

SingularPairs StartGradients::at(const AdapterSite& site, int64_t k) {
  if (k > computed_) compute(k);
  const SingularPairs& found = pairs_.at(site.path);
  const int64_t kept = std::min(k, found.s.size(0));
  return {found.u.narrow(1, 0, kept), found.s.narrow(0, 0, kept), found.v.narrow(1, 0, kept)};
}

void StartGradients::compute(int64_t k) {
  constexpr size_t kRows = 64;  // a few batches: the leading directions settle quickly
  const auto& all = session_.train.examples;
  check(!all.empty(), "compressed starts need training rows");
  const size_t rows = std::min(kRows, all.size());
  std::vector<Example> examples(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(rows));
  LanguageModel& model = session_.model();
  const bool was_training = model.is_training();
  model.eval();
  if (session_.task().needs_reference())  // nothing is adapted yet
    session_.task().refer(model, examples, session_.evaluation());
  const auto batch_size = static_cast<size_t>(session_.config.train.batch_size);
  LongWork work("gradients for the start, rows");  // in several passes, how many is seen on the way
  const auto losses = [&](const std::function<void(const torch::Tensor&)>& take) {
    for (size_t start = 0; start < rows; start += batch_size) {
      std::vector<const Example*> chosen;
      for (size_t i = start; i < std::min(rows, start + batch_size); ++i) chosen.push_back(&examples[i]);
      const Batch batch = session_.task().collate(chosen).to(session_.device);
      take(session_.task().loss_of(model, batch) / static_cast<double>(rows));
      work.advance(static_cast<int64_t>(chosen.size()));
    }
  };
  pairs_ = leading_gradients(sites_, k, losses, static_cast<uint64_t>(session_.config.train.seed));
  computed_ = k;
  model.train(was_training);
}

}  // namespace deeplora
