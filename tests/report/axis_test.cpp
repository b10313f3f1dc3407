#include "report/axis.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace deeplora {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<std::string> labels(const Axis& axis) {
  std::vector<std::string> out;
  for (const Tick& tick : axis.ticks()) out.push_back(tick.label);
  return out;
}

TEST(AxisTest, TicksStandAtRoundNumbersWithEqualDecimals) {
  EXPECT_EQ(labels(Axis(std::vector{0.0, 1.0 / 3, 1.1}, {})),
            (std::vector<std::string>{"0", "0.2", "0.4", "0.6", "0.8", "1.0"}));
  EXPECT_EQ(labels(Axis(std::vector{-0.3, 0.3}, {})),
            (std::vector<std::string>{"-0.3", "-0.2", "-0.1", "0", "0.1", "0.2", "0.3"}));
  EXPECT_EQ(labels(Axis(std::vector{1e-9, 4e-9}, {})),
            (std::vector<std::string>{"1e-9", "1.5e-9", "2e-9", "2.5e-9", "3e-9", "3.5e-9", "4e-9"}));
}

TEST(AxisTest, WholeNumbersGetNoFractionalTicks) {
  EXPECT_EQ(labels(Axis(std::vector{1.0, 2.0, 3.0}, {})), (std::vector<std::string>{"1", "2", "3"}));
}

TEST(AxisTest, AConstantSitsInTheMiddleAndNoiseIsNotMagnified) {
  for (const double value : {0.5, 0.0, -3.0, 1e12, 1e-12, 1e300}) {
    const Axis axis(std::vector{value, value * (1 + 1e-13)}, {});
    EXPECT_NEAR(axis.position(value), 0.5, 1e-3) << value;
    EXPECT_GE(axis.ticks().size(), 2u) << value;
    EXPECT_GT(axis.high() - axis.low(), 0.1 * std::abs(value)) << value;
  }
}

TEST(AxisTest, WhatCannotBeShownDoesNotStretchTheRange) {
  const Axis axis(std::vector{kNan, 1.0, kInfinity, 3.0, -kInfinity}, {});
  EXPECT_EQ(axis.low(), 1);
  EXPECT_EQ(axis.high(), 3);
  EXPECT_FALSE(axis.can_show(kNan));
  EXPECT_FALSE(axis.can_show(kInfinity));
  EXPECT_TRUE(Axis(std::vector{kNan, kInfinity}, {}).empty());
  EXPECT_TRUE(Axis(std::vector{0.0, -1.0}, {.log = true}).empty());
  EXPECT_TRUE(Axis({}, {}).empty());
}

// Oracle: a finite position inside [0, 1] for every value the axis was made from, increasing with the value.
TEST(AxisTest, ExtremeRangesStayFiniteAndOrdered) {
  const double largest = std::numeric_limits<double>::max(), smallest = std::numeric_limits<double>::min();
  for (const bool log : {false, true})
    for (const std::vector<double>& values :
         {std::vector{log ? smallest : -largest, largest}, std::vector{smallest, 1.0}, std::vector{1e-300, 1e300},
          std::vector{1.0, 1.0 + 1e-12}}) {
      const Axis axis(values, {.log = log});
      const double a = axis.position(values[0]), b = axis.position(values[1]);
      EXPECT_GE(a, -1e-9);
      EXPECT_LE(b, 1 + 1e-9);
      EXPECT_LE(a, b);
      EXPECT_LT(axis.ticks().size(), 40u);
      for (const Tick& tick : axis.ticks()) EXPECT_TRUE(std::isfinite(axis.position(tick.value)));
    }
}

TEST(AxisTest, LogarithmicAxisHasADecadePerEqualStep) {
  const Axis axis(std::vector{1e-12, 1.0, 0.0, -5.0}, {.log = true});
  EXPECT_NEAR(axis.position(1e-6), 0.5, 1e-12);
  EXPECT_FALSE(axis.can_show(0));
  EXPECT_EQ(labels(axis), (std::vector<std::string>{"1e-12", "1e-9", "1e-6", "0.001", "1"}));
  EXPECT_EQ(labels(Axis(std::vector{1.0, 100.0}, {.log = true})),
            (std::vector<std::string>{"1", "2", "5", "10", "20", "50", "100"}));
  EXPECT_GE(Axis(std::vector{3.1, 3.9}, {.log = true}).ticks().size(), 3u) << "less than an octave still needs ticks";
}

TEST(AxisTest, TicksCanStandAtTheValuesThemselves) {
  EXPECT_EQ(labels(Axis(std::vector{8.0, 16.0, 32.0, 8.0, 64.0}, {.log = true, .at_values = true})),
            (std::vector<std::string>{"8", "16", "32", "64"}));
}

TEST(AxisTest, AxisOfBarsHoldsZeroAndNothingBelowItWithoutNeed) {
  const Axis axis(std::vector{5.0, 8.0}, {.from_zero = true, .padding = 0.05});
  EXPECT_EQ(axis.low(), 0);
  EXPECT_GT(axis.high(), 8);
  EXPECT_LT(Axis(std::vector{-5.0, 8.0}, {.from_zero = true, .padding = 0.05}).low(), -5);
}

TEST(NumberTextTest, WritesNumbersForPeople) {
  EXPECT_EQ(number_text(0.5), "0.5");
  EXPECT_EQ(number_text(-0.0), "0");
  EXPECT_EQ(number_text(0.123456), "0.1235");
  EXPECT_EQ(number_text(12345.678), "12346");
  EXPECT_EQ(number_text(184320), "184320");
  EXPECT_EQ(number_text(1.5e-7), "1.5e-7");
  EXPECT_EQ(number_text(2.5e20), "2.5e20");
  EXPECT_EQ(number_text(-0.25), "-0.25");
  EXPECT_EQ(number_text(0), "0");
  EXPECT_EQ(number_text(99.9996), "100");
  EXPECT_EQ(number_text(kNan), "undefined");
  EXPECT_EQ(number_text(-kInfinity), "-infinite");
}

}  // namespace
}  // namespace deeplora
