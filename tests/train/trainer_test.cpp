// Oracles: one large batch for accumulation, hand-counted steps and scores for the loop.
#include "train/trainer.h"

#include <ATen/autocast_mode.h>

#include "tests/train/tiny.h"

namespace deeplora {
namespace {

using namespace tiny;

std::vector<torch::Tensor> trained(const Model& model) {
  std::vector<torch::Tensor> out;
  for (const auto& group : model.groups())
    for (const auto& parameter : group.params) out.push_back(parameter.value.detach().clone());
  return out;
}

struct Course {
  TrainResult result;
  std::vector<torch::Tensor> weights;
  std::vector<nlohmann::ordered_json> metrics;
};

Course run_once(const TrainConfig& config, const std::vector<Example>& train, const std::vector<Example>& dev,
                TokenTask& task, Model& model) {
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  Course out;
  out.result = Trainer(setup_of(model, task, config)).run(train, dev, folder, /*resume=*/false);
  out.weights = trained(model);
  out.metrics = metrics_of(folder);
  return out;
}

Course run_once(const TrainConfig& config, size_t train_rows = 11, size_t dev_rows = 4) {
  TokenTask task;
  Model model;
  return run_once(config, rows(train_rows), rows(dev_rows, 2), task, model);
}

TEST(TrainerTest, AccumulationEqualsOneLargeBatchWithUnequalTokenCounts) {
  TrainConfig config = small_config();
  config.epochs = 3;
  config.group_by_length = false;  // the same rows in the same order, cut differently
  config.batch_size = 8;
  const Course whole = run_once(config, 20);
  config.batch_size = 2;
  config.accumulate = 4;
  const Course cut = run_once(config, 20);
  ASSERT_EQ(whole.result.steps, 9);  // 8 + 8 + 4 rows in each of 3 epochs
  ASSERT_EQ(cut.result.steps, 9);
  for (size_t i = 0; i < whole.weights.size(); ++i)
    EXPECT_LT((whole.weights[i] - cut.weights[i]).abs().max().item<double>(), 1e-6);
  for (size_t i = 0; i < whole.metrics.size(); ++i)
    EXPECT_NEAR(whole.metrics[i].value("loss", 0.0), cut.metrics[i].value("loss", 0.0), 1e-6);
}

TEST(TrainerTest, OneSgdStepIsTheGradientOfTheMeanOverTokens) {
  // Oracle: the gradient that autograd gives for the mean cross-entropy over all tokens of the two rows.
  TrainConfig config = small_config();
  config.optimizer = "sgd";
  config.schedule = "constant";
  config.clip = 0;
  config.weight_decay = 0;
  config.steps = 1;
  TokenTask task;
  Model model, reference;
  const auto train = rows(2);
  const auto before = trained(model);
  run_once(config, train, {}, task, model);
  const Example* both[] = {&train[0], &train[1]};
  const Batch batch = task.collate(both);
  (task.loss_sum(reference.forward(batch), batch) / static_cast<double>(task.loss_count(batch))).backward();
  const auto weight = before[2] - 0.01 * 3.0 * reference.weight_.grad();
  EXPECT_LT((trained(model)[2] - weight).abs().max().item<double>(), 1e-7);
}

TEST(TrainerTest, EpochsStepsAndEvaluationsAreCountedRight) {
  TrainConfig config = small_config();
  config.accumulate = 4;  // 11 rows: 6 micro-batches, hence steps of 4 and 2
  config.epochs = 2.5;
  Course run = run_once(config);
  EXPECT_EQ(run.result.steps, 5);
  EXPECT_EQ(run.result.epochs_started, 3);
  std::vector<int64_t> evaluated;
  for (const auto& row : run.metrics)
    if (row.contains("eval")) evaluated.push_back(row["step"]);
  EXPECT_EQ(evaluated, (std::vector<int64_t>{2, 4, 5}));
  config.steps = 7;
  config.eval_every = 3;
  run = run_once(config);
  evaluated.clear();
  for (const auto& row : run.metrics)
    if (row.contains("eval")) evaluated.push_back(row["step"]);
  EXPECT_EQ(evaluated, (std::vector<int64_t>{3, 6, 7}));
  EXPECT_EQ(run.metrics.back()["step"], 7);
}

TEST(TrainerTest, LearningRateAndNormOfEveryStepAreReported) {
  TrainConfig config = small_config();
  config.steps = 6;
  config.warmup = 2;
  const Course run = run_once(config, 11, 0);
  std::vector<double> rates;
  for (const auto& row : run.metrics) {
    rates.push_back(row["lr"]);
    EXPECT_GT(row["grad_norm"].get<double>(), 0.0);
  }
  ASSERT_EQ(rates.size(), 6u);
  const double expected[] = {0.0, 0.005, 0.01, 0.0075, 0.005, 0.0025};
  for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(rates[i], expected[i], 1e-12);
}

TEST(TrainerTest, TrainingLowersTheLossAndLeavesFrozenWeightsAlone) {
  TrainConfig config = small_config();
  config.epochs = 20;
  config.lr = 0.05;
  TokenTask task;
  Model model(0.1);
  const auto frozen = model.embedding_.clone();
  const Course run = run_once(config, rows(40), rows(10, 2), task, model);
  ASSERT_TRUE(run.result.best && run.result.last);
  EXPECT_GT(run.result.last->scores.values[1].second, 0.95) << "accuracy of a linearly separable task";
  EXPECT_TRUE(torch::equal(frozen, model.embedding_));
  EXPECT_FALSE(task.evaluated_in_training_mode);
  EXPECT_FALSE(model.is_training());
}

TEST(TrainerTest, ZeroStepsEvaluateAndSaveWithoutAChange) {
  TrainConfig config = small_config();
  config.steps = 0;
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  TokenTask task;
  Model model, untouched;
  const TrainResult result = Trainer(setup_of(model, task, config)).run({}, rows(4), folder, false);
  ASSERT_TRUE(result.best);
  EXPECT_EQ(result.best->step, 0);
  EXPECT_EQ(result.steps, 0);
  EXPECT_TRUE(torch::equal(model.weight_, untouched.weight_));
  EXPECT_TRUE(std::filesystem::exists(folder.adapter_file()));
}

/// Scores "f1" taken from a list, higher is better.
std::function<Scores(int64_t)> listed(std::vector<double> values) {
  return [values](int64_t number) {
    return Scores{.values = {{"f1", values.at(static_cast<size_t>(number - 1))}}, .higher_is_better = true};
  };
}

TEST(TrainerTest, TheBestAdapterIsKeptAndTheLastOneBesideIt) {
  TrainConfig config = small_config();
  config.steps = 5;
  config.eval_every = 1;
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  TokenTask task;
  task.scores = listed({0.1, std::nan(""), 0.7, 0.7, 0.2});
  Model model;
  auto setup = setup_of(model, task, config);
  std::string at_step_three;
  task.on_loss = [&](int64_t call) {  // the fourth step begins with the weights of step 3
    if (call != 4) return;
    write_bits(model, temporary / "third");
    at_step_three = read_file(temporary / "third");
  };
  const TrainResult result = Trainer(std::move(setup)).run(rows(11), rows(4, 2), folder, false);
  EXPECT_EQ(result.best->step, 3);
  EXPECT_EQ(result.best->scores.headline(), 0.7);
  EXPECT_EQ(result.last->step, 5);
  EXPECT_EQ(read_file(folder.adapter_file()), at_step_three);
  write_bits(model, temporary / "fifth");
  EXPECT_EQ(read_file(folder.last_adapter_file()), read_file(temporary / "fifth"));
  EXPECT_NE(read_file(folder.adapter_file()), read_file(folder.last_adapter_file()));
  EXPECT_TRUE(metrics_of(folder, "eval")[1]["eval"]["f1"].is_null());
}

TEST(TrainerTest, AnUndefinedScoreNeverBecomesTheBestAndTheLastStateIsKept) {
  TrainConfig config = small_config();
  config.steps = 2;
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  TokenTask task;
  task.scores = listed({std::nan("")});
  Model model;
  const TrainResult result = Trainer(setup_of(model, task, config)).run(rows(11), rows(4, 2), folder, false);
  EXPECT_FALSE(result.best);
  EXPECT_TRUE(std::isnan(result.last->scores.headline()));
  EXPECT_EQ(read_file(folder.adapter_file()), read_file(folder.last_adapter_file()));
}

TEST(TrainerTest, EarlyStoppingEndsAfterThatManyEvaluationsWithoutABetterScore) {
  TrainConfig config = small_config();
  config.steps = 50;
  config.eval_every = 2;
  config.early_stopping = 3;
  TokenTask task;
  task.scores = listed({0.1, 0.5, 0.5, std::nan(""), 0.4, 0.9});
  Model model;
  const Course run = run_once(config, rows(11), rows(4, 2), task, model);
  EXPECT_TRUE(run.result.stopped_early);
  EXPECT_EQ(run.result.steps, 10);
  EXPECT_EQ(run.result.best->step, 4);
}

TEST(TrainerTest, ALossThatIsNotANumberNamesStepRowsParameterAndCheckpoint) {
  TrainConfig config = small_config();
  config.steps = 6;
  config.eval_every = 2;
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  TokenTask task;
  Model model;
  task.on_loss = [&](int64_t call) {
    const torch::NoGradGuard no_grad;
    if (call == 4) model.embedding_.fill_(std::numeric_limits<float>::quiet_NaN());
  };
  auto text = error_of([&] { Trainer(setup_of(model, task, config)).run(rows(11), rows(4, 2), folder, false); });
  // The forward pass of step 4 came before the hook: step 5 is the first to see it.
  for (const char* part :
       {"the loss is nan at step 5", "(rows rows:", "first parameter concerned: down", "step-00000004"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
  const auto kept = list_checkpoints(folder.checkpoints());
  EXPECT_EQ(kept.back().filename(), "step-00000004");
}

TEST(TrainerTest, AnInfiniteGradientIsNamedThoughTheLossIsFinite) {
  TrainConfig config = small_config();
  config.steps = 6;
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  TokenTask task;
  Model model;
  model.bias_.register_hook([](const torch::Tensor& g) { return g * std::numeric_limits<float>::infinity(); });
  const auto text = error_of([&] { Trainer(setup_of(model, task, config)).run(rows(11), {}, folder, false); });
  for (const char* part :
       {"gradient's norm is", "at step 1", "first parameter concerned: head.bias", "checkpoint: none"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
  EXPECT_TRUE(list_checkpoints(folder.checkpoints()).empty());
  EXPECT_FALSE(std::filesystem::exists(folder.adapter_file()));
}

TEST(TrainerTest, ARunThatChangesNothingIsAnErrorThatNamesTheTensors) {
  TrainConfig config = small_config();
  config.optimizer = "sgd";
  config.lr = 1e-30;
  config.schedule = "constant";
  config.steps = 20;
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  TokenTask task;
  int64_t calls = 0;
  task.on_loss = [&](int64_t call) { calls = call; };
  Model model;
  // Zeros would take any update: start where float32 has no room for it.
  {
    const torch::NoGradGuard no_grad;
    model.up_.fill_(0.5);
    model.bias_.fill_(0.5);
  }
  const auto text = error_of([&] { Trainer(setup_of(model, task, config)).run(rows(11), {}, folder, false); });
  for (const char* part : {"down", "up", "head.weight", "head.bias", "after 2 steps", "1e-30"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
  EXPECT_EQ(calls, 2) << "found at once, not at the end";
}

TEST(TrainerTest, OneGroupThatStandsStillIsEnoughForTheError) {
  TrainConfig config = small_config();
  config.steps = 4;
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  TokenTask task;
  Model model;
  auto setup = setup_of(model, task, config);
  setup.groups[1].lr_scale = 1e-30;
  const auto text = error_of([&] { Trainer(setup).run(rows(11), {}, folder, false); });
  EXPECT_NE(text.find("starting bits: head.weight;"), std::string::npos) << text;
  setup.groups[1].lr_scale = 0.0;  // frozen on purpose
  RunFolder other = new_folder(temporary / "other");
  EXPECT_EQ(Trainer(setup).run(rows(11), {}, other, false).steps, 4);
}

TEST(TrainerTest, AGroupWithoutGradientIsAnErrorBeforeTheFirstStep) {
  TrainConfig config = small_config();
  config.steps = 4;
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  TokenTask task;
  Model model, untouched;
  auto setup = setup_of(model, task, config);
  setup.groups.push_back({.params = {{"lost", torch::zeros({2}).requires_grad_()}}});
  const auto text = error_of([&] { Trainer(setup).run(rows(11), {}, folder, false); });
  EXPECT_NE(text.find("does not depend on these trained tensors"), std::string::npos) << text;
  EXPECT_NE(text.find("lost"), std::string::npos) << text;
  EXPECT_TRUE(torch::equal(model.weight_, untouched.weight_));
}

TEST(TrainerTest, ALossFreeOfTrainedTensorsIsAnError) {
  TrainConfig config = small_config();
  config.steps = 1;
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  TokenTask task;
  Model model;
  for (auto& group : model.groups())
    for (auto& parameter : group.params) parameter.value.requires_grad_(false);
  const auto text = error_of([&] { Trainer(setup_of(model, task, config)).run(rows(11), {}, folder, false); });
  EXPECT_NE(text.find("does not depend on any trained tensor"), std::string::npos) << text;
}

TEST(TrainerTest, RowsWithNothingToPredictCostAStepButNoNaN) {
  TrainConfig config = small_config();
  config.batch_size = 1;
  config.epochs = 1;
  auto train = rows(4);
  train[2].labelled = false;
  TokenTask task;
  Model model;
  const Course run = run_once(config, train, {}, task, model);
  EXPECT_EQ(run.result.steps, 4);
  for (const auto& weight : run.weights) EXPECT_TRUE(torch::isfinite(weight).all().item<bool>());
}

TEST(TrainerTest, MistakesOfTheSetUpAreErrors) {
  TrainConfig config = small_config();
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  TokenTask task;
  Model model;
  EXPECT_NE(
      error_of([&] { Trainer(setup_of(model, task, config)).run({}, {}, folder, false); }).find("no training rows"),
      std::string::npos);
  config.early_stopping = 2;
  EXPECT_NE(
      error_of([&] { Trainer(setup_of(model, task, config)).run(rows(3), {}, folder, false); }).find("early_stopping"),
      std::string::npos);
  config.early_stopping = 0;
  config.steps = 3;
  config.warmup = 4;
  EXPECT_NE(
      error_of([&] { Trainer(setup_of(model, task, config)).run(rows(3), {}, folder, false); }).find("train.warmup"),
      std::string::npos);
  auto nothing = setup_of(model, task, config);
  nothing.groups.clear();
  EXPECT_NE(error_of([&] { Trainer trainer(nothing); }).find("nothing is trained"), std::string::npos);
}

TEST(TrainerTest, BfloatAutocastTrainsFloatWeights) {
  TrainConfig config = small_config();
  config.epochs = 10;
  config.lr = 0.05;
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  TokenTask task;
  Model model;
  auto setup = setup_of(model, task, config);
  setup.bf16 = true;
  bool autocast_on = false;
  task.on_loss = [&](int64_t) { autocast_on = at::autocast::is_autocast_enabled(at::kCPU); };
  const TrainResult result = Trainer(setup).run(rows(40), rows(10, 2), folder, false);
  EXPECT_EQ(model.weight_.scalar_type(), torch::kFloat32);
  EXPECT_GT(result.last->scores.values[1].second, 0.9);
  EXPECT_TRUE(autocast_on);
  EXPECT_FALSE(at::autocast::is_autocast_enabled(at::kCPU));
}

}  // namespace
}  // namespace deeplora
