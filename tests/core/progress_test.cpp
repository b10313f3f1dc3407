#include "core/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace deeplora {
namespace {

/// Runs a job against a pipe and a clock under our control, and gives what was written.
class PipedProgress : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::pipe2(ends_, O_NONBLOCK), 0); }
  void TearDown() override {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  Progress::Setup setup(int64_t total, bool terminal = false) {
    Progress::Setup out{.label = "train", .total = total, .descriptor = ends_[1], .terminal = terminal};
    out.clock = [this] { return now_; };
    return out;
  }
  std::string written() const {
    std::string out(1 << 16, '\0');
    const ssize_t size = ::read(ends_[0], out.data(), out.size());
    out.resize(size > 0 ? static_cast<size_t>(size) : 0);
    return out;
  }
  int ends_[2] = {-1, -1};
  double now_ = 100;
};

TEST_F(PipedProgress, PrintsALineEveryTenPercentAndAtEvaluations) {
  {
    Progress progress(setup(200));
    for (int64_t step = 1; step <= 60; ++step) {
      now_ += 0.5;
      const ProgressState state{.step = step, .loss = 1.0 / static_cast<double>(step), .samples_per_second = 32.0};
      progress.update(state);
      if (step == 50)
        progress.evaluated(
            {.step = step, .loss = 0.02, .metric_name = "pearson", .metric = 0.71234, .samples_per_second = 32.0});
    }
  }
  EXPECT_EQ(written(),
            "train 20/200 (10 %), loss 0.05, 32 samples/s, 1:30 left\n"
            "train 40/200 (20 %), loss 0.025, 32 samples/s, 1:20 left\n"
            "train 50/200 (25 %), loss 0.02, pearson 0.7123, 32 samples/s, 1:15 left\n"
            "train 60/200 (30 %), loss 0.01667, 32 samples/s, 1:10 left\n");
}

TEST_F(PipedProgress, LastStepIsShownOnceAndSaysHowLongItTook) {
  {
    Progress progress(setup(3));
    for (int64_t step = 1; step <= 3; ++step) {
      now_ += 1;
      progress.update({.step = step});
    }
    progress.finish();
    progress.update({.step = 3});
  }
  EXPECT_EQ(written(), "train 1/3 (33 %), 0:02 left\ntrain 2/3 (66 %), 0:01 left\ntrain 3/3 (100 %), in 0:03\n");
}

TEST_F(PipedProgress, AStoppedJobShowsWhereItStopped) {
  {
    Progress progress(setup(100));
    progress.update({.step = 7});
  }
  EXPECT_EQ(written(), "train 7/100 (7 %), 0:00 left\n");
}

TEST_F(PipedProgress, StepsOfAnEarlierSessionDoNotCountAsSpeed) {
  Progress::Setup resumed = setup(100);
  resumed.first = 80;
  {
    Progress progress(resumed);
    now_ += 20;
    progress.update({.step = 90});
  }
  EXPECT_EQ(written(), "train 90/100 (90 %), 0:20 left\n");
}

TEST_F(PipedProgress, WithoutATotalLinesComeByTime) {
  Progress progress(setup(0));
  progress.update({.step = 5});
  now_ += 29;
  progress.update({.step = 6});
  EXPECT_EQ(written(), "");
  now_ += 2;
  progress.update({.step = 7});
  EXPECT_EQ(written(), "train 7, after 0:31\n");
}

TEST_F(PipedProgress, ATerminalIsRedrawnAtMostTenTimesASecond) {
  {
    Progress progress(setup(1000, true));
    for (int64_t step = 1; step <= 1000; ++step) {
      now_ += 0.001;
      progress.update({.step = step});
    }
  }
  const std::string text = written();
  const auto drawn = std::count(text.begin(), text.end(), '\r');
  EXPECT_GE(drawn, 9);
  EXPECT_LE(drawn, 12);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_NE(text.rfind("1000/1000"), std::string::npos);
}

TEST_F(PipedProgress, ANoteKeepsTheBarBelowIt) {
  Progress progress(setup(10, true));
  progress.update({.step = 1});
  written();
  progress.note("saved");
  const std::string text = written();
  EXPECT_EQ(text.find("\r\x1b[Ksaved\n\r"), 0u);
  EXPECT_NE(text.find("1/10", 8), std::string::npos);
}

// Oracle: the process is still there. Without care SIGPIPE would end it.
TEST(ProgressTest, ABrokenPipeOnlySilencesIt) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ::close(ends[0]);
  {
    Progress progress({.label = "train", .total = 2, .descriptor = ends[1]});
    progress.update({.step = 1});
    progress.note("text");
  }
  ::close(ends[1]);
  sigset_t pending;
  sigpending(&pending);
  EXPECT_EQ(sigismember(&pending, SIGPIPE), 0);
}

// Oracle: a file opened later gets the closed descriptor's number and must stay empty.
TEST(ProgressTest, AClosedOutputNeverLeaksIntoALaterFile) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const int closed = ends[1];
  ::close(closed);
  Progress progress({.label = "train", .total = 2, .descriptor = closed});
  int later[2];
  ASSERT_EQ(::pipe2(later, O_NONBLOCK), 0);
  ASSERT_TRUE(later[0] == closed || later[1] == closed);
  progress.update({.step = 1});
  progress.finish();
  char byte = 0;
  EXPECT_EQ(::read(later[0], &byte, 1), -1);
  for (const int descriptor : {ends[0], later[0], later[1]}) ::close(descriptor);
}

TEST(ProgressTest, ABarFitsAnyWidthAndDropsFieldsFromTheRight) {
  const Progress::Setup setup{.label = "Übung", .total = 1000};
  const ProgressState state{
      .step = 420, .loss = 0.4321, .metric_name = "accuracy", .metric = 0.9, .samples_per_second = 311.6};
  const auto characters = [](const std::string& text) {
    return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  };
  for (int width = 0; width <= 200; ++width)
    EXPECT_LE(characters(progress_bar(setup, state, 60, width)), width) << width;
  EXPECT_EQ(progress_bar(setup, state, 60, 150),
            "Übung [#############-------------------] 420/1000  loss 0.4321  accuracy 0.9  312 samples/s  "
            "1:23 left");
  EXPECT_EQ(progress_bar(setup, state, 60, 40), "Übung [####------] 420/1000  loss 0.4321");
  EXPECT_EQ(progress_bar(setup, state, 60, 14), "Übung 420/1000");
}

TEST(ProgressTest, DurationsReadAsClocks) {
  EXPECT_EQ(duration_text(0.4), "0:00");
  EXPECT_EQ(duration_text(65), "1:05");
  EXPECT_EQ(duration_text(7384), "2:03:04");
  EXPECT_EQ(duration_text(std::numeric_limits<double>::infinity()), "?");
  EXPECT_EQ(duration_text(std::nan("")), "?");
}

}  // namespace
}  // namespace deeplora
