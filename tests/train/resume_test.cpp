// Oracle: a run that was never interrupted. Everything that the clock does not decide must be equal bit for
// bit.
#include <signal.h>

#include <fstream>

#include "tests/train/tiny.h"

namespace deeplora {
namespace {

using namespace tiny;
namespace fs = std::filesystem;

/// All that a finished run leaves behind.
struct Outcome {
  Checkpoint final_state;
  std::vector<nlohmann::ordered_json> metrics;
  std::string best, last;
};

/// Dropout, partial epochs, a partial accumulation group, and a loss window that crosses checkpoints.
TrainConfig broken_up_config() {
  TrainConfig config = small_config();
  config.accumulate = 4;  // 11 rows: 6 micro-batches, steps of 4 and 2
  config.epochs = 3.5;
  config.eval_every = 3;
  config.log_every = 2;
  config.warmup = 1;
  config.keep_checkpoints = 2;
  return config;
}

constexpr int64_t kSteps = 7, kLossCalls = 22;

struct Bench {
  TrainConfig config = broken_up_config();
  std::vector<Example> train = rows(11), dev = rows(4, 2);
  TemporaryFolder temporary;
  fs::path path = temporary / "run";

  /// One session in a model of its own, as a new process would have it.
  TrainResult session(bool resume, const std::function<void(TokenTask&)>& prepare = {}) {
    Model model(0.3);
    TokenTask task;
    if (prepare) prepare(task);
    StopSignal stop;
    RunFolder folder = resume ? RunFolder::open(path) : new_folder(path);
    torch::manual_seed(fs::exists(path) ? 99 : 98);  // what a resumed run finds in the generator must not matter
    return Trainer(setup_of(model, task, config, &stop)).run(train, dev, folder, resume);
  }

  Outcome outcome() const {
    const RunFolder folder = RunFolder::open(path);
    return {read_checkpoint(*folder.newest_checkpoint()), metrics_of(folder), read_file(folder.adapter_file()),
            read_file(folder.last_adapter_file())};
  }
};

void expect_same(const std::vector<NamedTensor>& a, const std::vector<NamedTensor>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].name, b[i].name) << what;
    EXPECT_TRUE(torch::equal(a[i].value, b[i].value)) << what << ": " << a[i].name;
  }
}

void expect_same(const Outcome& expected, const Outcome& got, const std::string& what) {
  expect_same(expected.final_state.parameters, got.final_state.parameters, what);
  expect_same(expected.final_state.optimizer, got.final_state.optimizer, what);
  expect_same(expected.final_state.generators, got.final_state.generators, what);
  EXPECT_EQ(expected.metrics, got.metrics) << what;
  EXPECT_EQ(expected.best, got.best) << what;
  EXPECT_EQ(expected.last, got.last) << what;
  const auto without_clock = [](const TrainState& state) {
    auto json = to_json(state);
    for (const char* key : {"seconds", "training_seconds", "seconds_to_first_step", "metrics_bytes"}) json.erase(key);
    return json;
  };
  EXPECT_EQ(without_clock(expected.final_state.state), without_clock(got.final_state.state)) << what;
}

Outcome uninterrupted(const TrainConfig& config = broken_up_config()) {
  Bench bench;
  bench.config = config;
  int64_t calls = 0;
  const TrainResult result =
      bench.session(false, [&](TokenTask& task) { task.on_loss = [&](int64_t call) { calls = call; }; });
  EXPECT_EQ(result.steps, kSteps);
  EXPECT_EQ(calls, kLossCalls);
  return bench.outcome();
}

TEST(ResumeTest, TheUninterruptedRunRepeatsItselfAndUsesItsRandomness) {
  const Outcome first = uninterrupted();
  expect_same(first, uninterrupted(), "second run");
  TrainConfig other = broken_up_config();
  other.seed = 2;
  EXPECT_NE(first.last, uninterrupted(other).last) << "the seed decides nothing: the comparisons below would be empty";
}

TEST(ResumeTest, StoppedByASignalInAnyMicroBatchItEndsWithTheSameBits) {
  const Outcome expected = uninterrupted();
  for (int64_t at = 1; at <= kLossCalls; ++at) {
    Bench bench;
    const auto stop_there = [&](TokenTask& task) {
      task.on_loss = [at](int64_t call) {
        if (call == at) ::raise(SIGTERM);
      };
    };
    const bool last_step = at > kLossCalls - 4;
    EXPECT_THROW(bench.session(false, stop_there), Interrupted) << at;
    const auto saved = list_checkpoints(RunFolder::open(bench.path).checkpoints());
    ASSERT_FALSE(saved.empty()) << at;
    if (last_step) EXPECT_EQ(saved.back().filename(), "step-00000007");
    EXPECT_EQ(bench.session(true).steps, kSteps);
    expect_same(expected, bench.outcome(), cat("signal in micro-batch ", at));
  }
}

TEST(ResumeTest, BrokenInAnyMicroBatchItEndsWithTheSameBits) {
  const Outcome expected = uninterrupted();
  for (int64_t at = 1; at <= kLossCalls; ++at) {
    Bench bench;
    const auto break_there = [&](TokenTask& task) {
      task.on_loss = [at](int64_t call) {
        if (call == at) throw std::bad_alloc();
      };
    };
    EXPECT_THROW(bench.session(false, break_there), std::bad_alloc) << at;
    EXPECT_EQ(bench.session(true).steps, kSteps);
    expect_same(expected, bench.outcome(), cat("broken in micro-batch ", at));
  }
}

TEST(ResumeTest, BrokenOrStoppedInAnyEvaluationItEndsWithTheSameBits) {
  const auto constant = [](TokenTask& task) {
    task.scores = [](int64_t) { return Scores{.values = {{"loss", 1.0}}}; };
  };
  Bench whole;
  whole.session(false, constant);
  const Outcome expected = whole.outcome();
  for (const bool broken : {false, true})
    for (int64_t at = 1; at <= 3; ++at) {
      Bench bench;
      const auto interfere = [&](TokenTask& task) {
        task.scores = [&](int64_t number) -> Scores {
          if (number == at && broken) throw std::bad_alloc();
          if (number == at) ::raise(SIGTERM);
          return {.values = {{"loss", 1.0}}};
        };
      };
      if (broken) EXPECT_THROW(bench.session(false, interfere), std::bad_alloc) << at;
      else if (at < 3) EXPECT_THROW(bench.session(false, interfere), Interrupted) << at;
      else EXPECT_EQ(bench.session(false, interfere).steps, kSteps) << "the last evaluation ends the run anyway";
      bench.session(true, constant);
      expect_same(expected, bench.outcome(), cat(broken ? "broken" : "stopped", " in evaluation ", at));
    }
}

TEST(ResumeTest, StoppedAfterEveryStepInTurnItEndsWithTheSameBits) {
  const Outcome expected = uninterrupted();
  Bench bench;
  const auto stop_at_once = [](TokenTask& task) { task.on_loss = [](int64_t) { ::raise(SIGTERM); }; };
  for (int64_t step = 1; step <= kSteps; ++step) {
    EXPECT_THROW(bench.session(step > 1, stop_at_once), Interrupted) << step;
    const auto saved = list_checkpoints(RunFolder::open(bench.path).checkpoints());
    EXPECT_LE(saved.size(), 2u);
    EXPECT_EQ(read_checkpoint(saved.back()).state.step, step);
  }
  EXPECT_EQ(bench.session(true).steps, kSteps);
  expect_same(expected, bench.outcome(), "stopped after every step");
  // Finished: going on once more only repeats the end.
  EXPECT_EQ(bench.session(true, [](TokenTask& task) { task.on_loss = [](int64_t) { FAIL(); }; }).steps, kSteps);
  expect_same(expected, bench.outcome(), "resumed when finished");
}

TEST(ResumeTest, StoppedBeforeTheFirstStepItEndsWithTheSameBits) {
  const Outcome expected = uninterrupted();
  Bench before;
  {
    Model model(0.3);
    TokenTask task;
    StopSignal stop;
    ::raise(SIGTERM);
    RunFolder folder = new_folder(before.path);
    EXPECT_THROW(Trainer(setup_of(model, task, before.config, &stop)).run(before.train, before.dev, folder, false),
                 Interrupted);
  }
  before.session(true);
  expect_same(expected, before.outcome(), "stopped before the first step");
}

TEST(ResumeTest, EarlyStoppingCountsAcrossABreak) {
  TrainConfig config = broken_up_config();
  config.eval_every = 1;
  config.early_stopping = 3;
  config.steps = 30;
  const auto scores = [](int64_t step) { return step == 2 ? 0.5 : 0.1; };
  Bench bench;
  bench.config = config;
  int64_t seen = 0;
  const auto listed = [&](TokenTask& task) {
    task.scores = [&](int64_t) { return Scores{.values = {{"f1", scores(++seen)}}}; };
    task.on_loss = [&](int64_t call) {
      if (call == 14 && seen == 4) ::raise(SIGTERM);
    };
  };
  EXPECT_THROW(bench.session(false, listed), Interrupted);
  const TrainResult result = bench.session(true, listed);
  EXPECT_TRUE(result.stopped_early);
  EXPECT_EQ(result.best->step, 2);
  EXPECT_EQ(result.steps, 5);
}

TEST(ResumeTest, AnotherConfigurationAdapterOrDataIsRefusedWithTheDifferencesNamed) {
  Bench bench;
  EXPECT_THROW(bench.session(false,
                             [](TokenTask& task) {
                               task.on_loss = [](int64_t call) {
                                 if (call == 9) ::raise(SIGTERM);
                               };
                             }),
               Interrupted);
  const auto metrics = read_file(RunFolder::open(bench.path).metrics_file());
  bench.config.lr = 0.02;
  bench.config.batch_size = 3;
  auto text = error_of([&] { bench.session(true); });
  for (const char* part : {"train.lr was 0.01, now 0.02", "train.batch_size was 2, now 3", "order of rows in epoch 1"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
  bench.config = broken_up_config();
  bench.train.pop_back();
  bench.dev[0].input_ids[0] ^= 1;
  text = error_of([&] { bench.session(true); });
  for (const char* part : {"rows of data.train, as the tokenizer reads them was \"11 rows", "now \"10 rows",
                           "rows of data.dev, as the tokenizer reads them was \"4 rows"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
  EXPECT_THROW(bench.session(true), CheckpointRefused);  // and not an Error like any other
  bench.dev[0].input_ids[0] ^= 1;
  bench.dev[0].references = {"another correct answer"};
  EXPECT_NE(error_of([&] { bench.session(true); }).find("rows of data.dev"), std::string::npos);
  EXPECT_EQ(read_file(RunFolder::open(bench.path).metrics_file()), metrics) << "a refused run changes nothing";
}

TEST(ResumeTest, WhatTheCallerAddsToTheIdentityMustBeTheSame) {
  Bench bench;
  const auto session = [&](bool resume, int64_t rank, bool head) {
    Model model(0.3);
    TokenTask task;
    if (!resume) task.on_loss = [](int64_t) { ::raise(SIGTERM); };
    StopSignal stop;
    RunFolder folder = resume ? RunFolder::open(bench.path) : new_folder(bench.path);
    auto setup = setup_of(model, task, bench.config, &stop);
    setup.identity = {{"adapter.rank", rank}};
    if (!head) setup.groups.pop_back();
    Trainer(setup).run(bench.train, bench.dev, folder, resume);
  };
  EXPECT_THROW(session(false, 8, true), Interrupted);
  EXPECT_NE(error_of([&] { session(true, 4, true); }).find("adapter.rank was 8, now 4"), std::string::npos);
  EXPECT_NE(error_of([&] { session(true, 8, false); }).find("learning-rate scales"), std::string::npos);
  EXPECT_EQ(error_of([&] { session(true, 8, true); }), "no error");
}

TEST(ResumeTest, SettingsThatDecideNothingMayChange) {
  const Outcome expected = uninterrupted();
  Bench bench;
  EXPECT_THROW(bench.session(false,
                             [](TokenTask& task) {
                               task.on_loss = [](int64_t call) {
                                 if (call == 9) ::raise(SIGTERM);
                               };
                             }),
               Interrupted);
  bench.config.save_every = 1;
  bench.config.keep_checkpoints = 5;
  bench.config.eval_batch_size = 1;
  bench.session(true);
  expect_same(expected, bench.outcome(), "saved more often");
  EXPECT_EQ(list_checkpoints(RunFolder::open(bench.path).checkpoints()).size(), 5u);
}

void flip_byte(const fs::path& file, int64_t from_end) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(-from_end, std::ios::end);
  const char byte = static_cast<char>(stream.peek() ^ 1);
  stream.seekp(-from_end, std::ios::end);
  stream.put(byte);
}

TEST(ResumeTest, ADamagedCheckpointIsLeftOutAndTheOneBeforeItUsed) {
  const Outcome expected = uninterrupted();
  const std::vector<std::function<void(const fs::path&)>> damages = {
      [](const fs::path& folder) { flip_byte(folder / "state.pt", 900); },
      [](const fs::path& folder) { flip_byte(folder / "state.json", 60); },
      [](const fs::path& folder) { flip_byte(folder / "best.safetensors", 3); },
      [](const fs::path& folder) { fs::resize_file(folder / "state.pt", 100); },
      [](const fs::path& folder) { fs::resize_file(folder / "state.json", 0); },
      [](const fs::path& folder) { fs::remove(folder / "state.pt"); },
      [](const fs::path& folder) { fs::remove_all(folder), fs::create_directory(folder); }};
  for (size_t i = 0; i < damages.size(); ++i) {
    Bench bench;
    bench.config.save_every = 2;
    EXPECT_THROW(bench.session(false,
                               [](TokenTask& task) {
                                 task.on_loss = [](int64_t call) {
                                   if (call == 15) ::raise(SIGTERM);
                                 };
                               }),
                 Interrupted);
    auto saved = list_checkpoints(RunFolder::open(bench.path).checkpoints());
    ASSERT_EQ(saved.size(), 2u);
    EXPECT_EQ(saved[1].filename(), "step-00000005");
    damages[i](saved[1]);
    EXPECT_NE(checkpoint_defect(saved[1]), "") << i;
    EXPECT_EQ(*RunFolder::open(bench.path).newest_checkpoint(), saved[0]) << i;
    EXPECT_EQ(bench.session(true).steps, kSteps);
    expect_same(expected, bench.outcome(), cat("damage ", i));
  }
}

TEST(ResumeTest, ACheckpointThatCannotBeReadIsNeitherDamagedNorLost) {
  Bench bench;
  EXPECT_THROW(bench.session(false,
                             [](TokenTask& task) {
                               task.on_loss = [](int64_t call) {
                                 if (call == 15) ::raise(SIGTERM);
                               };
                             }),
               Interrupted);
  const auto newest = list_checkpoints(RunFolder::open(bench.path).checkpoints()).back();
  fs::rename(newest / "state.pt", newest / "aside");
  fs::create_symlink("state.pt", newest / "state.pt");  // an error other than "not there", for root too
  const std::string text = error_of([&] { bench.session(true); });
  EXPECT_NE(text.find("cannot be read"), std::string::npos) << text;
  fs::remove(newest / "state.pt");
  fs::rename(newest / "aside", newest / "state.pt");
  bench.session(true);
  expect_same(uninterrupted(), bench.outcome(), "readable again");
}

TEST(ResumeTest, WithoutAnyUsableCheckpointItStartsOver) {
  const Outcome expected = uninterrupted();
  Bench bench;
  EXPECT_THROW(bench.session(false,
                             [](TokenTask& task) {
                               task.on_loss = [](int64_t call) {
                                 if (call == 17) ::raise(SIGTERM);
                               };
                             }),
               Interrupted);
  for (const auto& path : list_checkpoints(RunFolder::open(bench.path).checkpoints()))
    fs::resize_file(path / "state.pt", 10);
  EXPECT_EQ(bench.session(true).steps, kSteps);
  expect_same(expected, bench.outcome(), "started over");
}

}  // namespace
}  // namespace deeplora
