// Oracle: the fields of TrainConfig, spelt out by hand.
#include "tests/train/tiny.h"

namespace deeplora {
namespace {

using namespace tiny;

TEST(TrainConfigTest, MistakesAreReportedTogether) {
  const Config config = Config::parse(
      "train: {lr: -1, batch_size: 0, warmup: 2.5, schedule: lineal, epochs: 0, beta2: 1, keep_checkpoints: "
      "0}",
      "a.yaml");
  TrainConfig::read(config.section("train"));
  const auto text = error_of([&] { config.finish(); });
  for (const char* part : {"train.lr", "train.batch_size", "train.warmup", "did you mean 'linear'", "train.epochs",
                           "train.beta2", "train.keep_checkpoints"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
}

TEST(TrainConfigTest, EveryKeyReachesItsField) {
  const Config config = Config::parse(
      "train: {optimizer: sgd, lr: 0.5, head_lr: 0.25, beta1: 0.1, beta2: 0.2, eps: 0.3, weight_decay: 0.4, "
      "momentum: 0.6, schedule: cosine, warmup: 7, "
      "batch_size: 3, accumulate: 5, steps: 9, epochs: 1.5, clip: 2, eval_every: 11, eval_batch_size: 13, "
      "early_stopping: 15, save_every: 17, "
      "keep_checkpoints: 19, log_every: 21, shuffle: false, group_by_length: false, seed: 23, threads: 25}");
  const TrainConfig t = TrainConfig::read(config.section("train"));
  config.finish();
  EXPECT_EQ(std::make_tuple(t.optimizer, t.lr, t.head_lr, t.beta1, t.beta2, t.eps, t.weight_decay, t.momentum,
                            t.schedule, t.warmup),
            std::make_tuple("sgd", 0.5, 0.25, 0.1, 0.2, 0.3, 0.4, 0.6, "cosine", 7.0));
  EXPECT_EQ(std::make_tuple(t.batch_size, t.accumulate, t.steps, t.epochs, t.clip, t.eval_every, t.eval_batch_size,
                            t.early_stopping),
            std::make_tuple(3, 5, 9, 1.5, 2.0, 11, 13, 15));
  EXPECT_EQ(
      std::make_tuple(t.save_every, t.keep_checkpoints, t.log_every, t.shuffle, t.group_by_length, t.seed, t.threads),
      std::make_tuple(17, 19, 21, false, false, 23, 25));
}

TEST(TrainConfigTest, RowsInTheOrderOfTheFileAreNotGroupedByLength) {
  const Config config = Config::parse("train: {shuffle: false}");
  EXPECT_FALSE(TrainConfig::read(config.section("train")).group_by_length);
  config.finish();
  const Config both = Config::parse("train: {shuffle: false, group_by_length: true}");
  TrainConfig::read(both.section("train"));
  EXPECT_NE(error_of([&] { both.finish(); }).find("train.group_by_length"), std::string::npos);
}

}  // namespace
}  // namespace deeplora
