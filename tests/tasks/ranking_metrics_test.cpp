// Oracles: tests/golden/ranking.json, scores of trec_eval (tests/golden/make/ranking.py); the definitions by hand, on
// cases that can be checked with a pencil. scikit-learn's are in test_ranking.py.
#include "tasks/ranking_metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/files.h"

namespace deeplora {
namespace {

TEST(RankingMetrics, ScoresAreTrecEvals) {
  const auto golden = nlohmann::json::parse(read_file(DEEPLORA_TEST_DATA "/golden/ranking.json"));
  EXPECT_EQ(golden.at("cases").size(), 36u);
  for (const auto& one : golden.at("cases")) {
    std::vector<std::vector<RankedText>> queries;
    for (const auto& texts : one.at("queries")) {
      queries.emplace_back();
      for (const auto& text : texts) queries.back().push_back({text[0].get<double>(), text[1].get<double>()});
    }
    const RankingScores found = ranking_scores(queries);
    EXPECT_NEAR(found.mrr_at_10, one.at("mrr@10").get<double>(), 1e-12) << one;
    EXPECT_NEAR(found.ndcg_at_10, one.at("ndcg@10").get<double>(), 1e-12) << one;
    EXPECT_NEAR(found.map, one.at("map").get<double>(), 1e-12) << one;
    EXPECT_EQ(found.without_relevant, one.at("without_relevant").get<size_t>()) << one;
    EXPECT_EQ(found.queries, queries.size());
  }
}

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
