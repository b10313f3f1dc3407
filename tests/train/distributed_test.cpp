// Oracle: the same configuration in one process. A process is a thread here; tests/python/test_distributed.py starts
// real ones.
#include "train/distributed.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <exception>
#include <memory>
#include <set>
#include <thread>

#include "tests/train/tiny.h"

namespace deeplora {
namespace {

using namespace tiny;

int free_port() {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  EXPECT_EQ(::bind(descriptor, reinterpret_cast<sockaddr*>(&address), length), 0);
  EXPECT_EQ(::getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &length), 0);
  ::close(descriptor);
  return ntohs(address.sin_port);
}

/// Runs body(group) once per rank; what each threw, "" for nothing.
std::vector<std::string> together(int size, const std::function<void(ProcessGroup&)>& body) {
  std::vector<std::string> errors(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  const int port = free_port();
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      try {
        Launch launch;
        launch.rank = rank;
        launch.size = size;
        launch.master = "127.0.0.1";
        launch.port = port;
        ProcessGroup group(launch, std::chrono::seconds(60));
        try {
          body(group);
        } catch (const std::exception& e) {
          group.meeting().announce_failure(e.what());
          throw;
        }
      } catch (const std::exception& e) {
        errors[static_cast<size_t>(rank)] = e.what();
      }
    });
  for (auto& thread : threads) thread.join();
  return errors;
}

/// 11 rows of unequal length: steps of 4 and of 2 micro-batches, a last one with a single row, so that some process has
/// none.
TrainConfig uneven_config() {
  TrainConfig config = small_config();
  config.accumulate = 4;
  config.epochs = 3.5;
  config.eval_every = 3;
  config.clip = 0.05;
  config.lr = 0.05;
  return config;
}

struct Bench {
  TrainConfig config = uneven_config();
  std::vector<Example> train = rows(11), dev = rows(4, 2);
  TemporaryFolder temporary;
  std::filesystem::path path = temporary / "run";
  std::vector<std::unique_ptr<Model>> models;  ///< by rank

  TrainResult alone(bool resume = false) {
    models.clear();
    models.push_back(std::make_unique<Model>(0.0, torch::kFloat64));
    TokenTask task;
    RunFolder folder = resume ? RunFolder::open(path) : new_folder(path);
    return Trainer(setup_of(*models[0], task, config)).run(train, dev, folder, resume);
  }

  /// What each rank threw; prepare(rank, task) may break one.
  std::vector<std::string> together(int size, bool resume = false,
                                    const std::function<void(int, TokenTask&)>& prepare = {}) {
    models.clear();
    for (int rank = 0; rank < size; ++rank) models.push_back(std::make_unique<Model>(0.0, torch::kFloat64));
    if (!resume) new_folder(path);
    return deeplora::together(size, [&](ProcessGroup& group) {
      TokenTask task;
      if (prepare) prepare(group.rank(), task);
      Model& model = *models[static_cast<size_t>(group.rank())];
      RunFolder folder = group.leads() ? RunFolder::open(path) : RunFolder::of_another("/nonexistent");
      Trainer::Setup setup = setup_of(model, task, config);
      setup.group = &group;
      Trainer(std::move(setup)).run(train, dev, folder, resume);
    });
  }
};

double difference(const Model& a, const Model& b) {
  double out = 0;
  const auto left = a.groups(), right = b.groups();
  for (size_t g = 0; g < left.size(); ++g)
    for (size_t i = 0; i < left[g].params.size(); ++i)
      out = std::max(out, (left[g].params[i].value - right[g].params[i].value).abs().max().item<double>());
  return out;
}

const std::vector<std::string> kNoErrors2(2), kNoErrors3(3);

TEST(DistributedTest, EveryRowOfAStepHasOneProcess) {
  const std::vector<MicroBatch> step = {{0, 1, 2, 3}, {4, 5, 6, 7}, {8}};
  EXPECT_EQ(share_of_step(step, 4, 0, 1), step);
  for (const int size : {2, 3, 5, 12}) {
    std::multiset<size_t> rows;
    for (int rank = 0; rank < size; ++rank) {
      size_t own = 0;
      for (const MicroBatch& batch : share_of_step(step, 4, rank, size)) {
        EXPECT_FALSE(batch.empty());
        EXPECT_LE(batch.size(), 4u);
        rows.insert(batch.begin(), batch.end());
        own += batch.size();
      }
      EXPECT_LE(own, (9 + static_cast<size_t>(size) - 1) / static_cast<size_t>(size))
          << "nobody has more than a fair share";
    }
    EXPECT_EQ(rows, (std::multiset<size_t>{0, 1, 2, 3, 4, 5, 6, 7, 8})) << size;
  }
  EXPECT_EQ(share_of_step(step, 4, 1, 2), (std::vector<MicroBatch>{{1, 3, 5, 7}}))
      << "one forward pass where one is enough";
}

TEST(DistributedTest, TextsReachEverybody) {
  const auto errors = together(3, [](ProcessGroup& group) {
    EXPECT_EQ(group.broadcast(group.leads() ? "from 0" : "mine"), "from 0");
    EXPECT_EQ(group.broadcast(std::string()), "");
    const std::string mine(static_cast<size_t>(group.rank() * 2), 'x');
    EXPECT_EQ(group.gather(mine), (std::vector<std::string>{"", "xx", "xxxx"}));
    const torch::Tensor every_other = torch::arange(6, torch::kFloat64).slice(0, 0, 6, 2);
    group.sum(every_other);
    EXPECT_TRUE(torch::equal(every_other, torch::tensor({0.0, 6.0, 12.0}, torch::kFloat64)));
  });
  EXPECT_EQ(errors, kNoErrors3);
}

TEST(DistributedTest, TheStepIsThatOfOneProcess) {
  Bench one;
  const TrainResult expected = one.alone();
  for (const int size : {2, 3}) {
    Bench several;
    EXPECT_EQ(several.together(size), std::vector<std::string>(static_cast<size_t>(size)));
    // float64: only the order of additions differs.
    EXPECT_LT(difference(*one.models[0], *several.models[0]), 1e-12) << size;
    for (int rank = 1; rank < size; ++rank)
      EXPECT_EQ(difference(*several.models[0], *several.models[static_cast<size_t>(rank)]), 0.0);
    const auto before = metrics_of(RunFolder::open(one.path)), now = metrics_of(RunFolder::open(several.path));
    ASSERT_EQ(before.size(), now.size());
    for (size_t i = 0; i < now.size(); ++i) {
      EXPECT_EQ(before[i]["step"], now[i]["step"]);
      if (before[i].contains("loss")) {
        EXPECT_NEAR(before[i]["loss"].get<double>(), now[i]["loss"].get<double>(), 1e-12);
        EXPECT_NEAR(before[i]["grad_norm"].get<double>(), now[i]["grad_norm"].get<double>(), 1e-12);
      } else {
        EXPECT_NEAR(before[i]["eval"]["loss"].get<double>(), now[i]["eval"]["loss"].get<double>(), 1e-12);
      }
    }
  }
  EXPECT_EQ(expected.steps, 7);
}

TEST(DistributedTest, ALostProcessLeavesACheckpointForAnyNumberOfProcesses) {
  Bench one;
  one.alone();
  for (const int size : {1, 2}) {
    Bench broken;
    const auto errors = broken.together(3, false, [](int rank, TokenTask& task) {
      if (rank == 2)
        task.on_loss = [](int64_t call) {
          if (call == 5) throw std::runtime_error("the machine burns");
        };
    });
    EXPECT_EQ(errors[2], "the machine burns");
    EXPECT_NE(errors[1].find("process 2 of 3: the machine burns"), std::string::npos) << errors[1];
    EXPECT_NE(errors[0].find("process 2 of 3: the machine burns; saved after step "), std::string::npos) << errors[0];
    EXPECT_NE(errors[0].find("--resume"), std::string::npos) << errors[0];
    const auto checkpoint = RunFolder::open(broken.path).newest_checkpoint();
    ASSERT_TRUE(checkpoint);
    const int64_t step = read_checkpoint(*checkpoint).state.step;
    EXPECT_GT(step, 0);
    EXPECT_LT(step, 7);
    if (size == 1) EXPECT_EQ(broken.alone(true).steps, 7);
    else EXPECT_EQ(broken.together(size, true), kNoErrors2);
    EXPECT_LT(difference(*one.models[0], *broken.models[0]), 1e-12) << size;
  }
}

TEST(DistributedTest, ABadRowOfOneProcessStopsAllAndIsNamedByAll) {
  Bench bench;
  bench.config.accumulate = 1;
  const auto errors = bench.together(2, false, [](int rank, TokenTask& task) {
    if (rank == 1) task.factor = [](int64_t call) { return call == 2 ? std::nan("") : 1.0; };
  });
  for (const auto& error : errors) {
    EXPECT_NE(error.find("the loss is nan at step 2 (rows rows:"), std::string::npos) << error;
  }
}

TEST(DistributedTest, ProcessesWithOtherDataOrSettingsAreRefused) {
  TemporaryFolder temporary;
  new_folder(temporary / "run");
  const auto errors = together(2, [&](ProcessGroup& group) {
    Model model;
    TokenTask task;
    TrainConfig config = small_config();
    if (!group.leads()) config.clip = 7;
    RunFolder folder = group.leads() ? RunFolder::open(temporary / "run") : RunFolder::of_another("/nonexistent");
    Trainer::Setup setup = setup_of(model, task, config);
    setup.group = &group;
    Trainer(std::move(setup)).run(rows(5), {}, folder, false);
  });
  for (const auto& error : errors)
    EXPECT_NE(error.find("rank 1: train.clip is 7.0, with rank 0 1.0"), std::string::npos) << error;
}

TEST(DistributedTest, MissingProcessesAreCounted) {
  Launch launch;
  launch.size = 3;
  launch.master = "127.0.0.1";
  launch.port = free_port();
  const std::string message = error_of([&] { Rendezvous(launch, std::chrono::milliseconds(300)); });
  EXPECT_NE(message.find("only 1 of 3 processes came to 127.0.0.1:"), std::string::npos) << message;
}

}  // namespace
}  // namespace deeplora
