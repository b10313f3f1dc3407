#include "starting_directions.h"

#include <torch/torch.h>

#include "core/long_work.h"
#include "lm/leading_inputs.h"
#include "session.h"

namespace deeplora {

SingularPairs StartingDirections::gradient(const AdapterSite& site, int64_t k) {
  return at(gradients_, site, k, [this](int64_t most) {
    const auto batch_size = static_cast<size_t>(session_.config.train.batch_size);
    return with_losses(batch_size, "gradients for the start, rows", [&](const StartingLosses& losses) {
      return leading_gradients(sites_, most, losses, static_cast<uint64_t>(session_.config.train.seed));
    });
  });
}

SingularPairs StartingDirections::inputs(const AdapterSite& site, int64_t k) {
  return at(inputs_, site, k, [this](int64_t most) {
    // Row by row: a layer's inputs then hold no padding, whatever computes the model.
    return with_losses(1, "inputs for the start, rows", [&](const StartingLosses& losses) {
      const torch::NoGradGuard no_grad;
      const auto runs = [&losses] { losses([](const torch::Tensor&) {}); };
      return leading_inputs(sites_, most, runs, static_cast<uint64_t>(session_.config.train.seed));
    });
  });
}

SingularPairs StartingDirections::at(Found& found, const AdapterSite& site, int64_t k,
                                     const std::function<std::map<std::string, SingularPairs>(int64_t k)>& compute) {
  if (k > found.asked) {
    found.pairs = compute(k);
    found.asked = k;
  }
  const SingularPairs& pairs = found.pairs.at(site.path);
  const int64_t kept = std::min(k, pairs.s.size(0));
  return {pairs.u.narrow(1, 0, kept), pairs.s.narrow(0, 0, kept), pairs.v.narrow(1, 0, kept)};
}

std::map<std::string, SingularPairs> StartingDirections::with_losses(
    size_t batch_size, const char* what,
    const std::function<std::map<std::string, SingularPairs>(const StartingLosses&)>& compute) const {
  constexpr size_t kRows = 64;  // a few batches: the leading directions settle quickly
  const auto& all = session_.train.examples;
  check(!all.empty(), "starts from gradients or inputs need training rows");
  const size_t rows = std::min(kRows, all.size());
  std::vector<Example> examples(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(rows));
  LanguageModel& model = session_.model();
  const bool was_training = model.is_training();
  model.eval();
  if (session_.task().needs_reference())  // nothing is adapted yet
    session_.task().refer(model, examples, session_.evaluation());
  LongWork work(what);  // in several passes, how many is seen on the way
  const StartingLosses losses = [&](const std::function<void(const torch::Tensor&)>& take) {
    for (size_t start = 0; start < rows; start += batch_size) {
      std::vector<const Example*> chosen;
      for (size_t i = start; i < std::min(rows, start + batch_size); ++i) chosen.push_back(&examples[i]);
      const Batch batch = session_.task().collate(chosen).to(session_.device);
      take(session_.task().loss_of(model, batch) / static_cast<double>(rows));
      work.advance(static_cast<int64_t>(chosen.size()));
    }
  };
  auto out = compute(losses);
  model.train(was_training);
  return out;
}

}  // namespace deeplora
