#include "core/system.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <regex>
#include <stdexcept>
#include <thread>
#include <vector>

namespace deeplora {
namespace {

// Oracle: memory touched here must show in the process's own high-water mark.
TEST(SystemTest, PeakMemoryGrowsByWhatIsTouchedAndNeverShrinks) {
  const double before = peak_memory_mb();
  {
    std::vector<char> block(static_cast<size_t>(before * 1024 * 1024) + (64u << 20));
    for (size_t i = 0; i < block.size(); i += 1024) block[i] = 1;
    EXPECT_GT(peak_memory_mb(), before + 50);
  }
  EXPECT_GT(peak_memory_mb(), before + 50);
}

TEST(SystemTest, ClockAndProcessAgeAdvanceTogether) {
  const double clock = clock_seconds(), age = process_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  EXPECT_GE(clock_seconds() - clock, 0.055);
  EXPECT_NEAR(process_seconds() - age, clock_seconds() - clock, 0.03);  // ticks of 10 ms
  EXPECT_LT(age, 3600);
}

TEST(SystemTest, TimestampIsIso8601InUtc) {
  EXPECT_TRUE(std::regex_match(utc_timestamp(), std::regex(R"(20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\dZ)")));
}

TEST(SystemTest, QuotaOfAControlGroupIsRoundedUpToCores) {
  EXPECT_EQ(cores_of_quota("200000 100000"), 2);
  EXPECT_EQ(cores_of_quota("150000 100000"), 2);
  EXPECT_EQ(cores_of_quota("10000 100000"), 1);
  EXPECT_EQ(cores_of_quota("max 100000"), 0);
  EXPECT_EQ(cores_of_quota("-1 100000"), 0);
  EXPECT_EQ(cores_of_quota(""), 0);
}

TEST(SystemTest, UsableCoresFollowTheAffinityMask) {
  EXPECT_GE(usable_cores(), 1);
  cpu_set_t old, one;
  ASSERT_EQ(::sched_getaffinity(0, sizeof(old), &old), 0);
  int first = 0;
  while (!CPU_ISSET(first, &old)) ++first;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(::sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_EQ(usable_cores(), 1);
  ASSERT_EQ(::sched_setaffinity(0, sizeof(old), &old), 0);
}

TEST(StopSignalTest, FirstSignalIsRememberedAndTheProgramGoesOn) {
  StopSignal stop;
  EXPECT_FALSE(stop.requested());
  ::raise(SIGTERM);
  EXPECT_TRUE(stop.requested());
  ::raise(SIGINT);
  EXPECT_EQ(stop.signal_number(), SIGTERM);
}

TEST(StopSignalTest, DestructorPutsTheFormerHandlersBackAndANewObjectStartsAfresh) {
  struct sigaction ignore = {}, old = {}, now = {};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGINT, &ignore, &old);
  {
    StopSignal stop;
    ::raise(SIGINT);
    EXPECT_TRUE(stop.requested());
  }
  ::sigaction(SIGINT, nullptr, &now);
  EXPECT_EQ(now.sa_handler, SIG_IGN);
  EXPECT_FALSE(StopSignal().requested());
  ::sigaction(SIGINT, &old, nullptr);
}

#if defined(__GLIBC__) && !defined(DEEPLORA_SANITIZED)
/// MB that a fresh process holds beyond what it began with, after blocks of 8 MB were used and freed between small ones
/// that stay; the exit status carries them.
int megabytes_left(bool give_back) {
  const pid_t child = ::fork();
  if (child == 0) {
    keep_freed_memory();
    if (give_back) give_large_blocks_back();
    const double before = memory_mb();
    std::vector<std::vector<char>> large, small;
    for (int i = 0; i < 12; ++i) {
      large.emplace_back(8 << 20, 'x');
      small.emplace_back(1 << 10, 'x');
    }
    large.clear();
    ::_exit(static_cast<int>(memory_mb() - before));
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WEXITSTATUS(status);
}

TEST(MemoryTest, LargeFreedBlocksGoBackOnceTheyAreAskedTo) {
  EXPECT_GE(megabytes_left(false), 60);
  EXPECT_LE(megabytes_left(true), 10);
}
#endif

TEST(StopSignalTest, TwoAtOnceAreRefused) {
  const StopSignal stop;
  EXPECT_THROW(StopSignal(), std::logic_error);
}

// Oracle: the exit status that the parent process sees.
TEST(StopSignalTest, SecondInterruptLeavesAtOnceWith130) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const StopSignal stop;
    ::raise(SIGINT);
    if (!stop.requested()) ::_exit(1);
    ::raise(SIGINT);
    ::_exit(2);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 130);
}

}  // namespace
}  // namespace deeplora
