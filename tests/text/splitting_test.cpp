#include "text/splitting.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "text/sampling.h"

namespace deeplora {
namespace {

std::vector<SplitRow> random_rows(uint64_t seed, size_t count, size_t classes, size_t inputs) {
  SplitMix64 draw(seed);
  std::vector<SplitRow> out;
  for (size_t i = 0; i < count; ++i) {
    const size_t input = inputs == 0 ? i : draw.below(inputs);
    out.push_back({"text " + std::to_string(input),
                   classes == 0 ? "" : "class " + std::to_string(draw.below(classes) * draw.below(2))});
  }
  return out;
}

std::map<std::string, size_t> counts(const std::vector<SplitRow>& rows, const std::vector<size_t>& chosen) {
  std::map<std::string, size_t> out;
  for (const size_t i : chosen) ++out[rows[i].stratum];
  return out;
}

TEST(Splitting, EveryRowIsInExactlyOnePartAndEqualInputsAreInTheSame) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const auto rows = random_rows(seed, 1 + seed, seed % 5, seed % 3 == 0 ? 0 : 5 + seed / 2);
    const SplitRows parts = split_rows(rows, 0.05 * static_cast<double>(seed % 11), 0.25, seed);
    std::map<std::string, int> side;
    std::set<size_t> seen;
    int number = 0;
    for (const auto* part : {&parts.train, &parts.dev, &parts.test}) {
      EXPECT_TRUE(std::is_sorted(part->begin(), part->end()));
      for (const size_t i : *part) {
        EXPECT_TRUE(seen.insert(i).second) << "row " << i << " twice, seed " << seed;
        EXPECT_EQ(side.emplace(rows[i].input, number).first->second, number) << "seed " << seed;
      }
      ++number;
    }
    EXPECT_EQ(seen.size(), rows.size());
    EXPECT_FALSE(parts.train.empty());
  }
}

TEST(Splitting, WithoutEqualInputsAPartHasItsSizeAndEveryClassItsShareOfIt) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const auto rows = random_rows(seed, 100 + 3 * seed, 4, 0);
    const SplitRows parts = split_rows(rows, 0.1, 0.2, seed);
    const auto n = static_cast<double>(rows.size());
    EXPECT_EQ(parts.dev.size(), std::ceil(0.1 * n));
    EXPECT_EQ(parts.test.size(), std::ceil(0.2 * n));
    std::vector<size_t> all(rows.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    for (const auto& [stratum, count] : counts(rows, all))
      for (const auto* part : {&parts.dev, &parts.test}) {
        const double exact = static_cast<double>(part->size() * count) / n;
        EXPECT_LT(std::abs(static_cast<double>(counts(rows, *part)[stratum]) - exact), 1)
            << stratum << " seed " << seed;
      }
  }
}

TEST(Splitting, AClassOfOneRowStaysInTrain) {
  std::vector<SplitRow> rows;
  for (int i = 0; i < 10; ++i) rows.push_back({std::to_string(i), "often"});
  rows.push_back({"10", "once"});
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const SplitRows parts = split_rows(rows, 0.5, 0.4, seed);
    EXPECT_EQ(parts.train.back(), 10U);
  }
}

TEST(Splitting, AnotherSeedDrawsOtherRowsAndTheSameSeedTheSame) {
  const auto rows = random_rows(1, 200, 3, 0);
  const SplitRows first = split_rows(rows, 0.1, 0.1, 7), again = split_rows(rows, 0.1, 0.1, 7),
                  other = split_rows(rows, 0.1, 0.1, 8);
  EXPECT_EQ(first.dev, again.dev);
  EXPECT_EQ(first.test, again.test);
  EXPECT_NE(first.dev, other.dev);
}

TEST(Splitting, RowsThatAreAllEqualStayTogetherInTrain) {
  const std::vector<SplitRow> rows(30, SplitRow{"same", "a"});
  const SplitRows parts = split_rows(rows, 0.1, 0.1, 1);
  EXPECT_TRUE(parts.dev.empty());
  EXPECT_TRUE(parts.test.empty());
  EXPECT_EQ(parts.train.size(), 30U);
}

}  // namespace
}  // namespace deeplora
