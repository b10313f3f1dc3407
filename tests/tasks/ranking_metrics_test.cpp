// Oracle: the definitions by hand, on cases that can be checked with a pencil; scikit-learn's are in test_ranking.py.
#include "tasks/ranking_metrics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace deeplora {
namespace {

TEST(RankingMetrics, OneQueryByHand) {
  // In order of the scores: relevance 0, 2, 0, 1.
  const RankingScores found = ranking_scores({{{0.1, 1}, {0.9, 0}, {0.5, 2}, {0.2, 0}}});
  EXPECT_DOUBLE_EQ(found.mrr_at_10, 1.0 / 2);
  EXPECT_DOUBLE_EQ(found.map, (1.0 / 2 + 2.0 / 4) / 2);
  const double ideal = 2 + 1 / std::log2(3.0), gained = 2 / std::log2(3.0) + 1 / std::log2(5.0);
  EXPECT_DOUBLE_EQ(found.ndcg_at_10, gained / ideal);
  EXPECT_EQ(found.queries, 1u);
  EXPECT_EQ(found.without_relevant, 0u);
}

TEST(RankingMetrics, PlacesBeyondTenCountForTheMeanPrecisionAlone) {
  std::vector<RankedText> texts;
  for (int i = 0; i < 10; ++i) texts.push_back({1.0 - i * 0.01, 0});
  texts.push_back({0.1, 1});
  const RankingScores found = ranking_scores({texts});
  EXPECT_EQ(found.mrr_at_10, 0);
  EXPECT_EQ(found.ndcg_at_10, 0);
  EXPECT_DOUBLE_EQ(found.map, 1.0 / 11);
}

TEST(RankingMetrics, OfEqualScoresTheLessRelevantStandsFirst) {
  const RankingScores found = ranking_scores({{{0.5, 1}, {0.5, 0}, {0.5, 0}}});
  EXPECT_DOUBLE_EQ(found.mrr_at_10, 1.0 / 3);
  EXPECT_DOUBLE_EQ(found.map, 1.0 / 3);
}

TEST(RankingMetrics, QueriesWithoutRelevantTextsCountZeroAndNoQueriesAreUndefined) {
  const RankingScores found = ranking_scores({{{0.9, 1}}, {{0.9, 0}, {0.1, 0}}});
  EXPECT_DOUBLE_EQ(found.mrr_at_10, 0.5);
  EXPECT_DOUBLE_EQ(found.ndcg_at_10, 0.5);
  EXPECT_DOUBLE_EQ(found.map, 0.5);
  EXPECT_EQ(found.without_relevant, 1u);
  EXPECT_TRUE(std::isnan(ranking_scores({}).map));
}

}  // namespace
}  // namespace deeplora
