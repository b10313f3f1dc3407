#include "text/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "core/error.h"

namespace deeplora {
namespace {

std::vector<int64_t> some_lengths(size_t n) {
  SplitMix64 random(5);
  std::vector<int64_t> out(n);
  for (auto& length : out) length = 1 + static_cast<int64_t>(random.below(300));
  return out;
}

std::vector<size_t> flatten(const std::vector<std::vector<size_t>>& batches) {
  std::vector<size_t> out;
  for (const auto& batch : batches) out.insert(out.end(), batch.begin(), batch.end());
  return out;
}

bool is_permutation_of_all(std::vector<size_t> rows, size_t n) {
  std::sort(rows.begin(), rows.end());
  std::vector<size_t> all(n);
  std::iota(all.begin(), all.end(), size_t{0});
  return rows == all;
}

// Oracle: the first outputs of Vigna's splitmix64.c for the seed 1234567.
TEST(SamplingTest, SplitMix64GivesThePublishedNumbers) {
  SplitMix64 random(1234567);
  EXPECT_EQ(random.next(), 6457827717110365317u);
  EXPECT_EQ(random.next(), 3203168211198807973u);
  EXPECT_EQ(random.next(), 9817491932198370423u);
  EXPECT_EQ(random.next(), 4593380528125082431u);
  EXPECT_EQ(random.next(), 16408922859458223821u);
}

// Oracle: the law of large numbers; 60,000 draws of 6 values have a standard deviation of 91 each.
TEST(SamplingTest, BoundedDrawsAreUniform) {
  SplitMix64 random(3);
  std::vector<int> counts(6);
  for (int i = 0; i < 60000; ++i) ++counts[random.below(6)];
  for (const int count : counts) EXPECT_NEAR(count, 10000, 6 * 91);
}

TEST(SamplingTest, SamplesAreDifferentRowsAndGrowWithTheirNumber) {
  const auto small = sample_rows(1000, 16, 42), large = sample_rows(1000, 64, 42);
  EXPECT_EQ(std::set<size_t>(large.begin(), large.end()).size(), 64u);
  EXPECT_LT(*std::max_element(large.begin(), large.end()), 1000u);
  EXPECT_TRUE(std::equal(small.begin(), small.end(), large.begin()));
  EXPECT_NE(sample_rows(1000, 16, 43), small);
  EXPECT_TRUE(is_permutation_of_all(sample_rows(50, 50, 1), 50));
  EXPECT_TRUE(sample_rows(0, 0, 1).empty());
}

// Oracle: a Python transcription of Fisher-Yates from the front over SplitMix64 with rejection of the biased
// range.
TEST(SamplingTest, SamplesAreTheSameOnEveryPlatform) {
  EXPECT_EQ(sample_rows(10, 10, 7), (std::vector<size_t>{7, 0, 4, 6, 8, 5, 2, 1, 9, 3}));
}

TEST(SamplingTest, MoreSamplesThanRowsAreAnErrorWithBothNumbers) {
  try {
    sample_rows(1662, 5000, 0, "train.jsonl");
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("data.samples: 5000, but train.jsonl has 1662 rows"), std::string::npos);
  }
}

class BatchOrderTest : public testing::TestWithParam<BatchOrder> {};

TEST_P(BatchOrderTest, EveryRowComesOnceAndOnlyTheLastBatchIsSmaller) {
  for (const size_t n : {0u, 1u, 7u, 8u, 1003u}) {
    const auto lengths = some_lengths(n);
    const auto batches = make_batches(lengths, 8, GetParam(), 1, 0);
    EXPECT_TRUE(is_permutation_of_all(flatten(batches), n));
    EXPECT_EQ(batches.size(), (n + 7) / 8);
    for (size_t i = 0; i + 1 < batches.size(); ++i) EXPECT_EQ(batches[i].size(), 8u);
  }
}

TEST_P(BatchOrderTest, SeedAndEpochDecideTheOrderUnlessItIsFixed) {
  const auto lengths = some_lengths(500);
  const auto first = make_batches(lengths, 8, GetParam(), 1, 0);
  EXPECT_EQ(make_batches(lengths, 8, GetParam(), 1, 0), first);
  const bool fixed = GetParam() == BatchOrder::sorted_by_length || GetParam() == BatchOrder::given;
  EXPECT_EQ(make_batches(lengths, 8, GetParam(), 1, 1) == first, fixed);
  EXPECT_EQ(make_batches(lengths, 8, GetParam(), 2, 0) == first, fixed);
}

INSTANTIATE_TEST_SUITE_P(Orders, BatchOrderTest,
                         testing::Values(BatchOrder::given, BatchOrder::shuffled, BatchOrder::length_grouped,
                                         BatchOrder::sorted_by_length));

TEST(SamplingTest, GroupedBatchesWasteLessPaddingAndStayInRandomOrder) {
  const auto lengths = some_lengths(1600);
  const auto padding = [&](const std::vector<std::vector<size_t>>& batches) {
    int64_t waste = 0;
    for (const auto& batch : batches) {
      int64_t longest = 0;
      for (const size_t row : batch) longest = std::max(longest, lengths[row]);
      for (const size_t row : batch) waste += longest - lengths[row];
    }
    return waste;
  };
  const auto grouped = length_grouped_batches(lengths, 8, 1, 0);
  EXPECT_LT(padding(grouped) * 10, padding(make_batches(lengths, 8, BatchOrder::shuffled, 1, 0)));
  std::vector<int64_t> longest;
  for (const auto& batch : grouped) longest.push_back(lengths[batch[0]]);
  EXPECT_FALSE(std::is_sorted(longest.begin(), longest.begin() + 50, std::greater<>()));
}

TEST(SamplingTest, RowsCanStayAsTheyCome) {
  const std::vector<std::vector<size_t>> expected = {{0, 1, 2}, {3, 4}};
  EXPECT_EQ(make_batches(some_lengths(5), 3, BatchOrder::given, 1, 4), expected);
}

TEST(SamplingTest, EvaluationOrderIsLongestFirst) {
  const auto lengths = some_lengths(100);
  const auto rows = flatten(make_batches(lengths, 8, BatchOrder::sorted_by_length, 1, 0));
  EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end(), [&](size_t a, size_t b) { return lengths[a] > lengths[b]; }));
}

}  // namespace
}  // namespace deeplora
