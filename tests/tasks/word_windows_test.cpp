// Oracle: what every cut has to hold, on lengths drawn at random.
#include "tasks/word_windows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>

namespace deeplora {
namespace {

TEST(WordWindows, OneWindowForWhatFits) {
  const auto found = word_windows({2, 3, 0, 1}, 6);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].end, 4u);
  EXPECT_EQ(found[0].decided, (std::vector<size_t>{0, 1, 2, 3}));
  ASSERT_EQ(word_windows({}, 6).size(), 1u);
  EXPECT_TRUE(word_windows({}, 6)[0].decided.empty());
}

TEST(WordWindows, NeighboursShareAQuarterAndEachDecidesItsHalf) {
  const auto found = word_windows(std::vector<size_t>(14, 1), 8);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[1].begin, 6u);
  EXPECT_EQ(found[0].decided, (std::vector<size_t>{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(found[1].decided, (std::vector<size_t>{7, 8, 9, 10, 11, 12, 13}));
}

TEST(WordWindows, EachWordIsDecidedOnceWhereItsContextIsLargest) {
  std::mt19937 random(7);
  for (int round = 0; round < 400; ++round) {
    const size_t room = 1 + random() % 24;
    std::vector<size_t> pieces(random() % 60);
    for (auto& count : pieces) count = std::min<size_t>(room, random() % 5);
    const auto found = word_windows(pieces, room);
    const auto sum = [&](size_t begin, size_t end) {
      return std::accumulate(pieces.begin() + static_cast<long>(begin), pieces.begin() + static_cast<long>(end),
                             size_t{0});
    };
    const auto context = [&](const WordWindow& w, size_t word) {
      constexpr size_t kNone = std::numeric_limits<size_t>::max();
      return std::min(w.begin == 0 ? kNone : sum(w.begin, word), w.end == pieces.size() ? kNone : sum(word + 1, w.end));
    };
    std::vector<size_t> decided;
    for (size_t i = 0; i < found.size(); ++i) {
      const WordWindow& window = found[i];
      EXPECT_LE(sum(window.begin, window.end), room);
      if (i > 0) {
        EXPECT_LE(window.begin, found[i - 1].end);
        EXPECT_GT(window.begin, found[i - 1].begin);
        EXPECT_GT(window.end, found[i - 1].end);
        EXPECT_LE(sum(window.begin, found[i - 1].end), room / 4);
      }
      for (const size_t word : window.decided) {
        EXPECT_TRUE(window.begin <= word && word < window.end);
        for (const auto& other : found)
          if (other.begin <= word && word < other.end) EXPECT_GE(context(window, word), context(other, word));
      }
      decided.insert(decided.end(), window.decided.begin(), window.decided.end());
    }
    std::sort(decided.begin(), decided.end());
    std::vector<size_t> all(pieces.size());
    std::iota(all.begin(), all.end(), size_t{0});
    EXPECT_EQ(decided, all);
  }
}

}  // namespace
}  // namespace deeplora
