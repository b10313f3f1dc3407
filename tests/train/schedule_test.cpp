// Oracle: tests/golden/schedule.json, the factors of transformers' schedules (tests/golden/make/train.py).
#include "train/schedule.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"

namespace deeplora {
namespace {

TEST(ScheduleTest, FactorsEqualTransformers) {
  const auto golden = nlohmann::json::parse(read_file(DEEPLORA_TEST_DATA "/golden/schedule.json"))["schedules"];
  ASSERT_EQ(golden.size(), 18u);
  for (const auto& row : golden) {
    const Schedule schedule{row["name"], row["total"], row["warmup"]};
    const auto expected = row["factors"].get<std::vector<double>>();
    for (size_t step = 0; step < expected.size(); ++step)
      EXPECT_NEAR(schedule.factor(static_cast<int64_t>(step)), expected[step], 1e-15)
          << row["name"] << " of " << row["total"] << " steps after " << row["warmup"] << ", step " << step;
  }
}

TEST(ScheduleTest, WarmupIsAShareBelowOneAndStepsFromOneOn) {
  EXPECT_EQ(warmup_steps(0.0, 100), 0);
  EXPECT_EQ(warmup_steps(0.06, 101), 7);  // 6.06 rounded up, as transformers does
  EXPECT_EQ(warmup_steps(1.0, 100), 1);
  EXPECT_EQ(warmup_steps(40.0, 100), 40);
}

TEST(ScheduleTest, WarmupLongerThanTheRunAndUnknownNamesAreErrors) {
  EXPECT_THROW(warmup_steps(101.0, 100), Error);
  EXPECT_THROW((Schedule{"liner", 10, 0}.factor(3)), Error);
}

}  // namespace
}  // namespace deeplora
