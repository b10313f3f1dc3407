// Oracle: tests/golden/metrics.json, scores of scikit-learn (tests/golden/make/metrics.py); thresholds by trying all.
#include "tasks/multi_label_metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "core/files.h"
#include "text/sampling.h"

namespace deeplora {
namespace {

using Probabilities = std::vector<std::vector<double>>;

LabelTable from(const Probabilities& probabilities, double threshold) {
  LabelTable out;
  for (const auto& row : probabilities) {
    out.emplace_back();
    for (const double p : row) out.back().push_back(p >= threshold ? 1 : 0);
  }
  return out;
}

double golden_number(const nlohmann::json& value) {
  return value.is_string() ? std::stod(value.get<std::string>()) : value.get<double>();
}

void expect_equal(double got, const nlohmann::json& expected, const std::string& what) {
  const double value = golden_number(expected);
  if (std::isnan(value)) EXPECT_TRUE(std::isnan(got)) << what << " is " << got;
  else EXPECT_NEAR(got, value, 1e-12) << what;
}

TEST(MultiLabelMetrics, ScoresEqualScikitLearn) {
  const auto cases = nlohmann::json::parse(read_file(DEEPLORA_TEST_DATA "/golden/metrics.json"))["labels"];
  ASSERT_EQ(cases.size(), 10u);
  for (const auto& row : cases) {
    const auto name = row["name"].get<std::string>();
    const auto probabilities = row["predicted"].get<Probabilities>();
    const auto expected = row["expected"].get<LabelTable>();
    const auto& scores = row["scores"];
    const LabelTally tally(from(probabilities, 0.5), expected);
    expect_equal(tally.micro_f1(), scores["micro_f1"], name + ": micro F1");
    expect_equal(tally.macro_f1(), scores["macro_f1"], name + ": macro F1");
    expect_equal(tally.subset_accuracy(), scores["subset_accuracy"], name + ": subset accuracy");
    expect_equal(mean_average_precision(probabilities, expected), scores["map"], name + ": average precision");
    const auto labels = tally.per_label();
    for (size_t c = 0; c < labels.size(); ++c) {
      expect_equal(labels[c].precision, scores["precision"][c], name + ": precision");
      expect_equal(labels[c].recall, scores["recall"][c], name + ": recall");
    }
  }
}

TEST(MultiLabelMetrics, CellsThatTurnGiveTheScoresOfTheNewTable) {
  SplitMix64 draw(5);
  for (int round = 0; round < 50; ++round) {
    const size_t rows = 1 + draw.below(6), labels = 1 + draw.below(5);
    LabelTable predicted(rows, std::vector<char>(labels)), expected = predicted;
    for (size_t i = 0; i < rows; ++i)
      for (size_t c = 0; c < labels; ++c) {
        predicted[i][c] = draw.below(2) == 0;
        expected[i][c] = draw.below(2) == 0;
      }
    LabelTally tally(predicted, expected);
    for (int turn = 0; turn < 20; ++turn) {
      const size_t i = draw.below(rows), c = draw.below(labels);
      tally.turn(i, c);
      predicted[i][c] = predicted[i][c] == 0 ? 1 : 0;
      const LabelTally anew(predicted, expected);
      for (const char* metric : {"micro_f1", "macro_f1", "subset_accuracy"})
        EXPECT_NEAR(tally.score(metric), anew.score(metric), 1e-12) << metric;
    }
  }
}

TEST(MultiLabelMetrics, TheBestThresholdIsFoundAndTheNearestToAHalfAmongEquals) {
  SplitMix64 draw(7);
  for (int round = 0; round < 200; ++round) {
    const size_t rows = 1 + draw.below(8), labels = 1 + draw.below(4);
    Probabilities probabilities(rows, std::vector<double>(labels));
    LabelTable expected(rows, std::vector<char>(labels));
    for (size_t i = 0; i < rows; ++i)
      for (size_t c = 0; c < labels; ++c) {
        probabilities[i][c] = static_cast<double>(draw.below(12)) / 11;
        expected[i][c] = draw.below(3) == 0;
      }
    for (const char* metric : {"micro_f1", "macro_f1", "subset_accuracy"}) {
      const auto score = [&](double threshold) {
        return LabelTally(from(probabilities, threshold), expected).score(metric);
      };
      const double found = best_label_threshold(probabilities, expected, metric);
      double best = -1;
      for (int i = 0; i <= 220; ++i) best = std::max(best, score(i / 220.0));
      EXPECT_NEAR(score(found), best, 1e-12) << metric << " round " << round;
      if (score(0.5) >= best - 1e-12) {
        EXPECT_EQ(score(found), score(0.5));
      }
    }
  }
}

TEST(MultiLabelMetrics, TablesOfOtherShapesAndUnknownScoresAreRefused) {
  const LabelTable one{{1, 0}}, two{{1}}, three{{1, 0}, {0, 1}};
  EXPECT_THROW(LabelTally(one, two), std::invalid_argument);
  EXPECT_THROW(LabelTally(one, three), std::invalid_argument);
  EXPECT_THROW(LabelTally(one, one).score("f2"), std::invalid_argument);
  EXPECT_THROW(average_precision(std::vector<double>{1}, {true, false}), std::invalid_argument);
}

}  // namespace
}  // namespace deeplora
