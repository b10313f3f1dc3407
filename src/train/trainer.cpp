#include "train/trainer.h"

#include <stdexcept>

#include "train/train_run.h"

namespace deeplora {

Trainer::Trainer(Setup setup) : setup_(std::move(setup)) {
  if (!setup_.config.lr) throw std::logic_error("Trainer: train.lr must be filled in with the method's default");
  if (!setup_.save_adapter) throw std::logic_error("Trainer: save_adapter is missing");
  size_t parameters = 0;
  for (const auto& group : setup_.groups) parameters += group.params.size();
  check(parameters > 0 || setup_.config.steps == int64_t{0},
        "nothing is trained: no adapter and no head; choose adapter.method or adapter.targets, or "
        "train.steps: 0");
}

TrainResult Trainer::run(std::span<const Example> train, std::span<const Example> dev, RunFolder& folder, bool resume) {
  return TrainRun(setup_, train, dev, folder).run(resume);
}

}  // namespace deeplora
