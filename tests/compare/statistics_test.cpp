// Oracle: SciPy, through tests/golden/compare_statistics.json (tests/golden/make/compare.py).
#include "compare/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

namespace deeplora {
namespace {

const nlohmann::json& golden() {
  static const auto json = [] {
    std::ifstream in(std::string(DEEPLORA_TEST_DATA) + "/golden/compare_statistics.json");
    return nlohmann::json::parse(in);
  }();
  return json;
}

void expect_close(double found, double expected, double relative, const nlohmann::json& which) {
  EXPECT_NEAR(found, expected, relative * std::max(std::abs(expected), 1e-290)) << which;
}

TEST(CompareStatisticsTest, StudentTAndIncompleteBetaAreSciPys) {
  const auto& all = golden();
  for (const auto& row : all["quantiles"]) {
    if (row["p"] == 0.5) EXPECT_EQ(student_t_quantile(0.5, row["dof"]), 0);
    // 1 - p loses digits far in the tail: relative to the probability, not to t.
    else expect_close(student_t_quantile(row["p"], row["dof"]), row["t"], 1e-8, row);
  }
  for (const auto& row : all["tails"]) {
    expect_close(student_t_cdf(row["t"], row["dof"]), row["cdf"], 1e-10, row);
    expect_close(student_t_two_sided(row["t"], row["dof"]), row["two_sided"], 1e-9, row);
  }
  for (const auto& row : all["betas"])
    expect_close(incomplete_beta(row["a"], row["b"], row["x"]), row["value"], 1e-10, row);
  EXPECT_THROW(student_t_quantile(1, 3), std::invalid_argument);
  EXPECT_THROW(student_t_quantile(0.5, 0), std::invalid_argument);
}

TEST(CompareStatisticsTest, PairedDifferenceIsSciPysPairedTTest) {
  for (const auto& row : golden()["paired"]) {
    const auto a = row["a"].get<std::vector<double>>(), b = row["b"].get<std::vector<double>>();
    const PairedDifference d = paired_difference(a, b);
    EXPECT_EQ(d.pairs, a.size());
    EXPECT_EQ(d.higher, row["higher"].get<size_t>());
    EXPECT_EQ(d.lower, row["lower"].get<size_t>());
    for (const auto& [found, key] :
         {std::pair{d.mean, "mean"}, {d.sd, "sd"}, {d.low, "low"}, {d.high, "high"}, {d.p, "p"}})
      expect_close(found, row[key], 1e-9, row);
  }
}

TEST(CompareStatisticsTest, TheScoresStepIsAddedToTheSpread) {
  for (const auto& row : golden()["stepped"]) {
    const auto a = row["a"].get<std::vector<double>>(), b = row["b"].get<std::vector<double>>();
    const PairedDifference d = paired_difference(a, b, row["step"].get<double>());
    for (const auto& [found, key] :
         {std::pair{d.mean, "mean"}, {d.sd, "sd"}, {d.low, "low"}, {d.high, "high"}, {d.p, "p"}})
      expect_close(found, row[key], 1e-9, row);
  }
}

TEST(CompareStatisticsTest, HolmsAdjustmentIsHisStepDownTest) {
  for (const auto& row : golden()["holm"]) {
    const auto adjusted = holm_adjusted(row["p"].get<std::vector<double>>());
    for (size_t i = 0; i < adjusted.size(); ++i) EXPECT_NEAR(adjusted[i], row["adjusted"][i], 1e-15) << row;
  }
  const auto with_gap = holm_adjusted(std::vector<double>{0.01, std::nan(""), 0.04});
  EXPECT_NEAR(with_gap[0], 0.02, 1e-15);  // two tests, not three
  EXPECT_TRUE(std::isnan(with_gap[1]));
  EXPECT_NEAR(with_gap[2], 0.04, 1e-15);
}

TEST(CompareStatisticsTest, TooFewOrEqualPairs) {
  const PairedDifference one = paired_difference(std::vector<double>{0.5}, std::vector<double>{0.4});
  EXPECT_EQ(one.pairs, 1u);
  EXPECT_TRUE(std::isnan(one.low) && std::isnan(one.p));
  const std::vector<double> same{0.5, 0.7, 0.2};
  const PairedDifference equal = paired_difference(same, same);
  EXPECT_EQ(equal.equal, 3u);
  EXPECT_EQ(equal.low, 0);
  EXPECT_EQ(equal.high, 0);
  EXPECT_EQ(equal.p, 1);
  // One row more of 20 with every seed, in numbers that rounding keeps apart: .85 - .80 is not .80 - .75.
  for (const double step : {0.0, 0.05}) {
    const PairedDifference constant =
        paired_difference(std::vector<double>{0.85, 0.80}, std::vector<double>{0.80, 0.75}, step);
    EXPECT_TRUE(constant.no_spread);
    EXPECT_TRUE(std::isnan(constant.p) && std::isnan(constant.low) && std::isnan(constant.high));
    EXPECT_EQ(constant.sd, 0);
    EXPECT_NEAR(constant.mean, 0.05, 1e-15);
    EXPECT_EQ(paired_difference(same, same, step).p, 1);
    EXPECT_FALSE(paired_difference(same, same, step).no_spread);
  }
  const PairedDifference undefined =
      paired_difference(std::vector<double>{0.5, std::nan("")}, std::vector<double>{0.4, 0.3});
  EXPECT_TRUE(std::isnan(undefined.p));
}

TEST(CompareStatisticsTest, ADifferenceWithoutSpreadCountsAsOneOfTheTests) {
  std::vector<std::optional<PairedDifference>> all(4);
  all[0] = PairedDifference{.pairs = 2, .p = 0.01};
  all[1] = PairedDifference{.pairs = 2, .p = std::nan(""), .no_spread = true};
  all[2] = PairedDifference{.pairs = 1, .p = std::nan("")};  // no test at all, like the absent one
  const auto adjusted = holm_adjusted(all);
  EXPECT_NEAR(adjusted[0], 0.02, 1e-15);
  for (const size_t i : {1, 2, 3}) EXPECT_TRUE(std::isnan(adjusted[i])) << i;
}

}  // namespace
}  // namespace deeplora
