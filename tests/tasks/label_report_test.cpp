// Random draws beside scikit-learn are in tests/python/test_label_report.py.
#include "tasks/label_report.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tasks/assessment.h"

namespace deeplora {
namespace {

using Labels = std::vector<int64_t>;

TEST(LabelReportTest, RowsAreTrueLabelsAndColumnsPredictedOnes) {
  const Confusion counts = confusion_matrix(Labels{0, 1, 1, 2}, Labels{0, 0, 1, 1}, 4);
  EXPECT_EQ(counts, (Confusion{{1, 1, 0, 0}, {0, 1, 1, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}}));
  const auto scores = label_scores(counts);
  EXPECT_EQ(scores[0].precision, 1);
  EXPECT_EQ(scores[0].recall, 0.5);
  EXPECT_DOUBLE_EQ(scores[0].f1, 2 / 3.0);
  EXPECT_EQ(scores[0].support, 2);
  EXPECT_EQ(scores[2].precision, 0);  // predicted, never expected
  EXPECT_TRUE(std::isnan(scores[2].recall));
  EXPECT_EQ(scores[2].f1, 0);
  EXPECT_TRUE(std::isnan(scores[3].f1));  // neither
  const auto mistakes = frequent_mistakes(counts, 5);
  ASSERT_EQ(mistakes.size(), 2u);
  EXPECT_EQ(mistakes[0].expected, 0u);
  EXPECT_EQ(mistakes[0].predicted, 1u);
  EXPECT_THROW(confusion_matrix(Labels{0}, Labels{}, 1), std::invalid_argument);
  EXPECT_THROW(confusion_matrix(Labels{1}, Labels{0}, 1), std::invalid_argument);
  EXPECT_THROW(confusion_matrix(Labels{-1}, Labels{0}, 1), std::invalid_argument);
}

TEST(LabelReportTest, CalibrationIsTheMeanGapOfTheBins) {
  const std::vector<double> confidence{0.95, 1.0, 0.55, 0.6};
  const Calibration found = calibration(confidence, {true, false, true, true});
  EXPECT_EQ(found.bins.size(), 10u);
  EXPECT_EQ(found.bins[9].rows, 2);
  EXPECT_EQ(found.bins[5].rows, 2);  // 0.6 belongs to the bin that ends there
  EXPECT_DOUBLE_EQ(found.bins[9].confidence, 0.975);
  EXPECT_NEAR(found.error, (std::abs(1 - 1.95) + std::abs(2 - 1.15)) / 4, 1e-12);
  EXPECT_TRUE(std::isnan(calibration({}, {}).error));
}

TEST(LabelReportTest, ManyLabelsHaveTheirMistakesListed) {
  std::vector<std::string> names;
  for (size_t i = 0; i <= kMostConfusion; ++i) names.push_back(std::to_string(i));
  const auto report = label_report(names, Labels{1, 1, 2}, Labels{0, 0, 2}, std::vector<double>{1, 1, 1});
  EXPECT_FALSE(report["confusion"].contains("counts"));
  EXPECT_EQ(report["confusion"]["frequent"].dump(), R"([{"label":"0","prediction":"1","rows":2}])");
  EXPECT_EQ(report["per_label"].size(), names.size());
}

Assessment assessed() {
  Assessment out;
  out.classes = {"a", "b, c"};
  out.rows = {{"f:1", "a", "a", {0.9, 0.1}, 0.105},
              {"f:2", "a", "b, c", {0.2, 0.8}, 1.6},
              {"f:3", "b, c", "a", {0.51, 0.49}, 0.71}};
  return out;
}

TEST(AssessmentTest, RowsAreWrittenAsLinesAndAsCsv) {
  const Assessment found = assessed();
  EXPECT_TRUE(rows_jsonl(found).starts_with(
      R"({"row":1,"source":"f:1","label":"a","prediction":"a","probabilities":{"a":0.9,"b, c":0.1},"loss":0.105})"));
  EXPECT_EQ(rows_csv(found),
            "row,source,label,prediction,probability of a,\"probability of b, c\",loss\n1,f:1,a,a,0.9,0.1,0.105\n"
            "2,f:2,a,\"b, c\",0.2,0.8,1.6\n3,f:3,\"b, c\",a,0.51,0.49,0.71\n");
  Assessment loss_only;
  loss_only.rows = {{"f:1", nullptr, nullptr, {}, 2.5}};
  EXPECT_EQ(rows_jsonl(loss_only), "{\"row\":1,\"source\":\"f:1\",\"loss\":2.5}\n");
  EXPECT_EQ(rows_csv(loss_only), "row,source,label,prediction,loss\n1,f:1,,,2.5\n");
}

TEST(AssessmentTest, ConfidenceIsTheProbabilityOfWhatAThresholdPredicts) {
  Assessment found;
  found.classes = {"ham", "spam"};
  found.rows = {{"f:1", "spam", "ham", {0.3, 0.7}},  // below a threshold of 0.8
                {"f:2", "ham", "spam", {0.1, 0.9}},
                {"f:3", "spam", "ham", {0.6, 0.4}},
                {"f:4", "ham", "ham", {0.25, 0.75}},
                {"f:5", "ham", nullptr, {0.5, 0.5}}};  // nothing is predicted
  EXPECT_EQ(confidence(found, found.rows[0]), 0.3);
  EXPECT_TRUE(std::isnan(confidence(found, found.rows[4])));
  EXPECT_EQ(surest_mistakes(found, 9), (std::vector<size_t>{1, 2, 0}));
  EXPECT_EQ(least_certain(found, 9), (std::vector<size_t>{3, 0, 2, 1}));
}

TEST(AssessmentTest, RowsWorthALookAreFound) {
  const Assessment found = assessed();
  EXPECT_EQ(surest_mistakes(found, 9), (std::vector<size_t>{1, 2}));
  EXPECT_EQ(surest_mistakes(found, 1), (std::vector<size_t>{1}));
  EXPECT_EQ(least_certain(found, 2), (std::vector<size_t>{2, 1}));
  EXPECT_TRUE(largest_errors(found, 9).empty());
  Assessment numbers;
  numbers.rows = {{"f:1", 1.0, 1.5, {}, 0.25}, {"f:2", 2.0, 0.5, {}, 2.25}};
  EXPECT_EQ(largest_errors(numbers, 9), (std::vector<size_t>{1, 0}));
  EXPECT_TRUE(surest_mistakes(numbers, 9).empty());
}

}  // namespace
}  // namespace deeplora
