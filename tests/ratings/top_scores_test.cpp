// Oracle: tests/golden/recommendations.json, trec_eval's scores (tests/golden/make/recommendations.py).
#include "ratings/top_scores.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/files.h"

namespace deeplora {
namespace {
using Doubles = std::vector<double>;

TEST(TopScores, EqualTrecEval) {
  const auto golden = nlohmann::json::parse(read_file(DEEPLORA_TEST_DATA "/golden/recommendations.json"));
  for (const auto& g : golden["cases"]) {
    RatingsModel model;
    model.rows = g["rows"];
    model.cols = g["cols"];
    model.rank = g["rank"];
    model.row_factor = g["row_factor"].get<Doubles>();
    model.col_factor = g["col_factor"].get<Doubles>();
    model.col_bias = g["col_bias"].get<Doubles>();
    model.row_bias.assign(static_cast<size_t>(model.rows), 0.0);
    Ratings known, test;
    for (const auto& cell : g["known"]) {
      known.row.push_back(cell[0]);
      known.col.push_back(cell[1]);
      known.value.push_back(1);
    }
    for (const auto& cell : g["test"]) {
      test.row.push_back(cell[0]);
      test.col.push_back(cell[1]);
      test.value.push_back(cell[2]);
    }
    test.row.push_back(-1), test.col.push_back(0), test.value.push_back(5);  // a row that is not known
    for (const int threads : {1, 3}) {
      const auto found = top_scores(model, test, known, g["k"], g["relevant"], threads);
      ASSERT_TRUE(found.has_value());
      const auto& expected = g["scores"];
      EXPECT_NEAR(found->precision, expected["precision"].get<double>(), 1e-12);
      EXPECT_NEAR(found->recall, expected["recall"].get<double>(), 1e-12);
      EXPECT_NEAR(found->ndcg, expected["ndcg"].get<double>(), 1e-12);
      EXPECT_NEAR(found->map, expected["map"].get<double>(), 1e-12);
      EXPECT_NEAR(found->coverage, expected["coverage"].get<double>(), 1e-12);
      EXPECT_EQ(found->rows, expected["rows"].get<int64_t>());
    }
    EXPECT_FALSE(top_scores(model, test, known, 5, 100).has_value()) << "nothing is relevant";
  }
}

}  // namespace
}  // namespace deeplora
