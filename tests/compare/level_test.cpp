// Do the verdicts keep their promise? Tables of methods that are equally good, drawn by the thousand: at most 5 % may
// show anything. And tables with a true difference, which most must show.
//
// The model: n test rows, of which a share of 80 % is right by all methods' common knowledge. Every run (method and
// seed) flips each row with the same small probability, such that two runs differ on a given share of the rows. Scores
// are then whole numbers of rows, they tie often, and all methods are equally good.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iostream>
#include <random>

#include "compare/cell_files.h"
#include "compare/statistics.h"

namespace deeplora {
namespace {

constexpr size_t kMost = 10;  // comparisons of a table

/// Draws from a binomial distribution by its inverted distribution function.
class Binomial {
 public:
  Binomial(int n, double p) : below_(static_cast<size_t>(n) + 1) {
    double total = 0;
    for (int k = 0; k <= n; ++k) {
      const double logs = std::lgamma(n + 1.0) - std::lgamma(k + 1.0) - std::lgamma(n - k + 1.0);
      const double ends = (k > 0 ? k * std::log(p) : 0) + (k < n ? (n - k) * std::log1p(-p) : 0);
      below_[static_cast<size_t>(k)] = total += std::exp(logs + ends);
    }
  }
  int operator()(std::mt19937_64& random) const {
    const double u = std::uniform_real_distribution<double>()(random) * below_.back();
    return static_cast<int>(std::upper_bound(below_.begin(), below_.end() - 1, u) - below_.begin());
  }

 private:
  std::vector<double> below_;
};

struct Setting {
  int rows;
  double differing;  ///< share of rows on which two runs differ
  size_t seeds;
};

/// Shares of tables with 1, 2, 5 and 10 comparisons that show any finding.
constexpr std::array<size_t, 4> kComparisons = {1, 2, 5, kMost};
using Shares = std::array<double, kComparisons.size()>;

Shares shares_of_findings(const Setting& s, size_t tables, std::mt19937_64& random) {
  const double flip = (1 - std::sqrt(1 - 2 * s.differing)) / 2;
  const int right = s.rows * 8 / 10;
  const Binomial lost(right, flip), won(s.rows - right, flip);
  const auto draw = [&](std::vector<double>& scores) {
    scores.resize(s.seeds);
    for (double& score : scores) score = static_cast<double>(right - lost(random) + won(random)) / s.rows;
  };
  const double step = score_step("accuracy", s.rows);
  std::array<size_t, kComparisons.size()> found{};
  std::vector<double> baseline, method;
  std::vector<std::optional<PairedDifference>> differences(kMost);
  for (size_t table = 0; table < tables; ++table) {
    draw(baseline);
    for (auto& difference : differences) {
      draw(method);
      difference = paired_difference(method, baseline, step);
    }
    for (size_t i = 0; i < kComparisons.size(); ++i) {
      const auto adjusted = holm_adjusted(std::span(differences).first(kComparisons[i]));
      found[i] += std::any_of(adjusted.begin(), adjusted.end(), [](double p) { return p < kLevel; });
    }
  }
  Shares out;
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<double>(found[i]) / static_cast<double>(tables);
  return out;
}

TEST(CompareLevelTest, AtMostFivePercentOfTablesOfEqualMethodsShowAnything) {
  constexpr size_t kTables = 2000;
  // What so many tables may show by chance at a level of exactly 5 %, in 900 settings: four standard errors.
  const double most = kLevel + 4 * std::sqrt(kLevel * (1 - kLevel) / kTables);
  std::mt19937_64 random(20240607);
  double sum = 0;
  size_t settings = 0;
  for (const int rows : {20, 50, 100, 200, 500})
    for (const double differing : {0.02, 0.05, 0.1, 0.2, 0.5})
      for (const size_t seeds : {2, 3, 4, 5, 6, 7, 8, 9, 10}) {
        const Shares shares = shares_of_findings({rows, differing, seeds}, kTables, random);
        for (size_t i = 0; i < shares.size(); ++i) {
          EXPECT_LE(shares[i], most) << rows << " rows, " << differing << " differing, " << seeds << " seeds, "
                                     << kComparisons[i] << " comparisons";
          sum += shares[i];
          ++settings;
        }
      }
  EXPECT_LE(sum / static_cast<double>(settings), kLevel);
}

/// Where the plain t test, or one that only leaves equal differences out, shows something in 6 to 7 % of the tables.
TEST(CompareLevelTest, TheHardestSettingsStayBelow) {
  constexpr size_t kTables = 40000;
  const double most = kLevel + 4 * std::sqrt(kLevel * (1 - kLevel) / kTables);
  std::mt19937_64 random(3);
  for (const Setting& s : {Setting{20, 0.2, 5}, Setting{30, 0.1, 5}})
    for (const double share : shares_of_findings(s, kTables, random)) EXPECT_LE(share, most) << s.rows << " rows";
}

/// Counts of two classes' rows that a run gets right: `ones` of the class that is asked for, `zeros` of the other.
struct Counts {
  double ones, zeros;
};

/// Scores of classes move in uneven steps: differences that are nearly equal are common, and the plain t test shows
/// something in up to half of the tables.
TEST(CompareLevelTest, ScoresOfClassesKeepTheLevelToo) {
  constexpr size_t kTables = 1000;
  const double most = kLevel + 4 * std::sqrt(kLevel * (1 - kLevel) / kTables);
  const auto f1 = [](double right, double missed, double wrong) { return 2 * right / (2 * right + missed + wrong); };
  const auto macro = [&](const Counts& c, double ones, double zeros) {
    return (f1(c.ones, ones - c.ones, zeros - c.zeros) + f1(c.zeros, zeros - c.zeros, ones - c.ones)) / 2;
  };
  const auto matthews = [](const Counts& c, double ones, double zeros) {
    const double said_one = c.ones + zeros - c.zeros, said_zero = c.zeros + ones - c.ones;
    const double below = std::sqrt(said_one * said_zero * ones * zeros);
    return below > 0 ? (c.ones * c.zeros - (ones - c.ones) * (zeros - c.zeros)) / below : 0;
  };
  std::mt19937_64 random(4);
  for (const int half : {25, 50, 180})
    for (const double differing : {0.02, 0.1})
      for (const size_t seeds : {2, 3, 5}) {
        const double flip = (1 - std::sqrt(1 - 2 * differing)) / 2;
        const int right = half * 8 / 10;
        const Binomial lost(right, flip), won(half - right, flip);
        const auto draw = [&] { return static_cast<double>(right - lost(random) + won(random)); };
        std::array<size_t, 2> found{};
        for (size_t table = 0; table < kTables; ++table) {
          std::vector<std::vector<Counts>> runs(kMost + 1, std::vector<Counts>(seeds));
          for (auto& method : runs)
            for (Counts& c : method) c = {draw(), draw()};
          const auto shows = [&](const char* metric, const auto& score) {
            std::vector<std::vector<double>> scores(runs.size());
            for (size_t m = 0; m < runs.size(); ++m)
              for (const Counts& c : runs[m]) scores[m].push_back(score(c, half, half));
            std::vector<std::optional<PairedDifference>> differences(kMost);
            for (size_t m = 0; m < kMost; ++m)
              differences[m] = paired_difference(scores[m + 1], scores[0], score_step(metric, 2 * half));
            const auto adjusted = holm_adjusted(differences);
            return std::any_of(adjusted.begin(), adjusted.end(), [](double p) { return p < kLevel; });
          };
          found[0] += shows("f1", macro);
          found[1] += shows("matthews", matthews);
        }
        for (const size_t count : found)
          EXPECT_LE(static_cast<double>(count) / kTables, most)
              << 2 * half << " rows, " << differing << " differing, " << seeds << " seeds";
      }
}

TEST(CompareLevelTest, ATrueDifferenceIsFoundInMostTables) {
  constexpr size_t kTables = 2000, kSeeds = 5;
  constexpr int kRows = 365;
  // The better method is right on 10 % of the rows where the baseline is wrong, wrong on 5 % where it is right; and
  // every run has a spread of its own of one point.
  const Binomial gained(kRows, 0.10), lost(kRows, 0.05);
  std::mt19937_64 random(1);
  std::normal_distribution<double> of_run(0, 0.01 * kRows);
  size_t found = 0, found_of_three = 0;
  std::vector<double> baseline(kSeeds), method(kSeeds);
  std::vector<std::optional<PairedDifference>> differences(3);
  for (size_t table = 0; table < kTables; ++table) {
    std::vector<double> spread(kSeeds);
    for (double& now : spread) now = std::round(of_run(random));
    for (auto& difference : differences) {
      for (size_t i = 0; i < kSeeds; ++i) {
        baseline[i] = (0.7 * kRows + spread[i]) / kRows;
        method[i] = (0.7 * kRows + std::round(of_run(random)) + gained(random) - lost(random)) / kRows;
      }
      difference = paired_difference(method, baseline, score_step("accuracy", kRows));
    }
    found += holm_adjusted(std::span(differences).first(1))[0] < kLevel;
    found_of_three += holm_adjusted(differences)[0] < kLevel;
  }
  EXPECT_GE(static_cast<double>(found) / kTables, 0.9);
  EXPECT_GE(static_cast<double>(found_of_three) / kTables, 0.6);
}

}  // namespace
}  // namespace deeplora
