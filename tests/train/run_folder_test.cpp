// Oracle: the contract of a run folder, spelt out by hand.
#include "train/run_folder.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "core/leftovers.h"
#include "tests/train/tiny.h"

namespace deeplora {
namespace {

using namespace tiny;
namespace fs = std::filesystem;

TEST(RunFolderTest, NothingIsCreatedBeforeTheFirstWrite) {
  const TemporaryFolder temporary;
  RunFolder folder = RunFolder::create(temporary / "a/b/run");
  EXPECT_FALSE(fs::exists(temporary / "a"));
  folder.write(folder.config_file(), "train: {}\n");
  EXPECT_EQ(read_file(temporary / "a/b/run/config.yaml"), "train: {}\n");
  EXPECT_EQ(RunFolder::open(temporary / "a/b/run").path(), temporary / "a/b/run");
}

TEST(RunFolderTest, AFolderWithARunIsRefusedWithTheWayOut) {
  const TemporaryFolder temporary;
  new_folder(temporary / "run");
  const auto text = error_of([&] { RunFolder::create(temporary / "run"); });
  EXPECT_NE(text.find("holds a run already"), std::string::npos) << text;
  EXPECT_NE(text.find("--resume"), std::string::npos) << text;
}

TEST(RunFolderTest, AFolderWithOtherFilesIsRefusedAndTheyAreNamed) {
  const TemporaryFolder temporary;
  fs::create_directories(temporary / "run");
  std::ofstream(temporary / "run/thesis.tex") << "x";
  const auto text = error_of([&] { RunFolder::create(temporary / "run"); });
  EXPECT_NE(text.find("thesis.tex"), std::string::npos) << text;
  EXPECT_NE(error_of([&] { RunFolder::create(temporary / "run/thesis.tex"); }).find("is a file"), std::string::npos);
}

TEST(RunFolderTest, AnEmptyFolderAndTheRemainsOfAKilledStartAreFine) {
  const TemporaryFolder temporary;
  fs::create_directories(temporary / "run");
  {
    RunFolder::create(temporary / "run").lock();
  }
  std::ofstream(temporary / "run/.config.yaml.tmp-123-0") << "half";
  RunFolder folder = RunFolder::create(temporary / "run");
  folder.lock();
  EXPECT_FALSE(fs::exists(temporary / "run/.config.yaml.tmp-123-0")) << "the holder of the lock clears up";
}

TEST(RunFolderTest, WhatIsNotARunCannotBeOpened) {
  const TemporaryFolder temporary;
  fs::create_directories(temporary / "empty");
  std::ofstream(temporary / "file") << "x";
  EXPECT_NE(error_of([&] { RunFolder::open(temporary / "absent"); }).find("does not exist"), std::string::npos);
  EXPECT_NE(error_of([&] { RunFolder::open(temporary / "empty"); }).find("no config.yaml"), std::string::npos);
  EXPECT_NE(error_of([&] { RunFolder::open(temporary / "file"); }).find("but a file"), std::string::npos);
}

TEST(RunFolderTest, AFolderThatCannotBeWrittenIsAnError) {
  RunFolder folder = RunFolder::create("/proc/deeplora-run");  // refuses even root
  EXPECT_NE(error_of([&] { folder.lock(); }).find("cannot create the run folder /proc/deeplora-run"),
            std::string::npos);
  EXPECT_NE(error_of([&] { folder.write(folder.config_file(), ""); }).find("cannot create"), std::string::npos);
  if (::geteuid() == 0) return;  // permissions bind everybody else
  const TemporaryFolder temporary;
  fs::create_directories(temporary / "locked");
  fs::permissions(temporary / "locked", fs::perms::owner_read | fs::perms::owner_exec);
  RunFolder closed = RunFolder::create(temporary / "locked/run");
  EXPECT_NE(error_of([&] { closed.lock(); }).find("Permission denied"), std::string::npos);
}

TEST(RunFolderTest, TheLockKeepsAnotherProcessOutAndEndsWithIts) {
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  folder.lock();
  folder.lock();  // taking it again is fine
  const auto locked_elsewhere = [&] {
    const pid_t child = ::fork();
    if (child == 0) {
      const auto text = error_of([&] { RunFolder::open(temporary / "run").lock(); });
      const bool named =
          text.find("in use") != std::string::npos && text.find(cat("(pid ", ::getppid(), ")")) != std::string::npos;
      ::_exit(text == "no error" ? 0 : named ? 1 : 2);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WEXITSTATUS(status);
  };
  EXPECT_EQ(locked_elsewhere(), 1);
  {
    const RunFolder gone = std::move(folder);
  }
  EXPECT_EQ(locked_elsewhere(), 0);
}

TEST(RunFolderTest, OfTwoProcessesThatFoundAFolderEmptyOnlyOneMakesItsRun) {
  const TemporaryFolder temporary;
  RunFolder slow = RunFolder::create(temporary / "run");
  {
    RunFolder quick = RunFolder::create(temporary / "run");
    quick.lock();
    quick.write(quick.config_file(), "a: 1\n");
    EXPECT_NE(error_of([&] { RunFolder::create(temporary / "run"); }).find("in use by another deeplora process"),
              std::string::npos);
  }
  EXPECT_NE(error_of([&] { slow.lock(); }).find("holds a run already"), std::string::npos);
}

TEST(RunFolderTest, MetricsAreAppendedAndCutAtACheckpointsSize) {
  const TemporaryFolder temporary;
  RunFolder folder = RunFolder::create(temporary / "run");
  EXPECT_EQ(folder.metrics_size(), 0u);
  folder.append_metrics({{"step", 1}});
  const uint64_t size = folder.metrics_size();
  folder.append_metrics({{"step", 2}, {"loss", std::nan("")}});
  EXPECT_EQ(read_file(folder.metrics_file()), "{\"step\":1}\n{\"step\":2,\"loss\":null}\n");
  folder.truncate_metrics(size);
  EXPECT_EQ(read_file(folder.metrics_file()), "{\"step\":1}\n");
  folder.truncate_metrics(size + 100);  // rows that a crash of the machine lost: warned about, not invented
  EXPECT_EQ(folder.metrics_size(), size);
}

TEST(RunFolderTest, ItIsFinishedWithItsResult) {
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  EXPECT_FALSE(folder.finished());
  folder.write(folder.result_file(), "{}");
  EXPECT_TRUE(folder.finished());
}

Checkpoint some_checkpoint(int64_t step) {
  Checkpoint out;
  out.state.step = step;
  out.state.last_loss = 0.1;
  out.state.window_loss = std::numeric_limits<double>::infinity();
  out.state.last =
      TrainResult::Evaluation{step, {.values = {{"f1", std::nan("")}, {"loss", 1.0 / 3.0}}, .higher_is_better = true}};
  out.identity = {{"train.lr", 0.1}};
  out.movement = {{"a.b", "0123456789abcdef"}};
  const auto storage = torch::arange(100, torch::kFloat32);
  out.parameters = {{"a.b", storage.slice(0, 3, 7)}, {"half", torch::ones({2, 2}, torch::kBFloat16)}};
  out.optimizer = {{"a.b/step", torch::tensor(int64_t{7})}};
  out.generators = {{"cpu", torch::zeros({3}, torch::kUInt8)}};
  return out;
}

TEST(CheckpointTest, AllOfItReadsBackBitForBit) {
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  const Checkpoint written = some_checkpoint(12);
  write_checkpoint(folder, written, 2);
  EXPECT_EQ(*folder.newest_checkpoint(), folder.checkpoints() / "step-00000012");
  const Checkpoint read = read_checkpoint(*folder.newest_checkpoint());
  EXPECT_EQ(to_json(read.state), to_json(written.state));
  EXPECT_TRUE(std::isnan(read.state.last->scores.headline()));
  EXPECT_EQ(read.state.last->scores.values[1].second, 1.0 / 3.0);
  EXPECT_EQ(read.state.window_loss, written.state.window_loss);
  EXPECT_EQ(read.identity, written.identity);
  EXPECT_EQ(read.movement, written.movement);
  ASSERT_EQ(read.parameters.size(), 2u);
  EXPECT_TRUE(torch::equal(read.parameters[0].value, torch::arange(3, 7, torch::kFloat32)));
  EXPECT_EQ(read.parameters[0].value.storage().nbytes(), 16u) << "a view drags its storage along";
  EXPECT_EQ(read.parameters[1].value.scalar_type(), torch::kBFloat16);
  EXPECT_EQ(read.optimizer[0].value.item<int64_t>(), 7);
}

TEST(CheckpointTest, TheNewestStayAndLaterOnesGo) {
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  for (const int64_t step : {1, 2, 3, 900}) write_checkpoint(folder, some_checkpoint(step), 3);
  write_checkpoint(folder, some_checkpoint(4), 2);  // a run that went on from step 3
  std::vector<std::string> names;
  for (const auto& path : list_checkpoints(folder.checkpoints())) names.push_back(path.filename());
  EXPECT_EQ(names, (std::vector<std::string>{"step-00000003", "step-00000004"}));
  std::ofstream(folder.checkpoints() / "step-00000004/state.pt") << "damaged";
  write_checkpoint(folder, some_checkpoint(4), 2);
  EXPECT_EQ(checkpoint_defect(folder.checkpoints() / "step-00000004"), "");
}

std::vector<std::string> names_of_checkpoints(const RunFolder& folder) {
  std::vector<std::string> names;
  for (const auto& path : list_checkpoints(folder.checkpoints())) names.push_back(path.filename());
  return names;
}

TEST(CheckpointTest, AStepThatIsSavedAgainStepsAsideUntilTheNewOneHasItsName) {
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  write_checkpoint(folder, some_checkpoint(3), 2);
  write_checkpoint(folder, some_checkpoint(4), 2);
  const auto step = folder.checkpoints() / "step-00000004";
  std::filesystem::rename(step, step.string() + ".former");  // a kill between the two renames
  EXPECT_EQ(names_of_checkpoints(folder), (std::vector<std::string>{"step-00000003", "step-00000004.former"}));
  EXPECT_EQ(read_checkpoint(*folder.newest_checkpoint()).state.step, 4);
  write_checkpoint(folder, some_checkpoint(4), 2);
  EXPECT_EQ(names_of_checkpoints(folder), (std::vector<std::string>{"step-00000003", "step-00000004"}));
}

TEST(CheckpointTest, AKillAtAnyMomentLeavesAWholeOneOfTheStepThatIsSavedAgain) {
  const TemporaryFolder temporary;
  RunFolder folder = new_folder(temporary / "run");
  write_checkpoint(folder, some_checkpoint(4), 1);
  for (int kill = 0; kill < 30; ++kill) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0)
      for (;;) write_checkpoint(folder, some_checkpoint(4), 1);
    ::usleep(static_cast<useconds_t>(3000 + 700 * kill));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    remove_leftovers(folder.checkpoints());
    ASSERT_TRUE(folder.newest_checkpoint().has_value()) << "kill " << kill;
  }
}

TEST(CheckpointTest, ParametersThatDoNotFitAreAllNamedAndNothingIsChanged) {
  const auto a = torch::zeros({4}).requires_grad_(), b = torch::zeros({2}).requires_grad_();
  const std::vector<ParamGroup> groups = {{.params = {{"a.b", a}, {"new", b}}}};
  auto saved = some_checkpoint(1).parameters;
  saved.push_back({"new", torch::ones({3})});
  const auto text = error_of([&] { restore_parameters(saved, groups); });
  for (const char* part : {"new was [3] Float, now [2] Float", "half is in the checkpoint but not trained now"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
  EXPECT_TRUE(torch::equal(a, torch::zeros({4})));
  saved.erase(saved.begin());
  EXPECT_NE(error_of([&] { restore_parameters(saved, groups); }).find("a.b is trained now but not"), std::string::npos);
}

}  // namespace
}  // namespace deeplora
