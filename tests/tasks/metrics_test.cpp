// Oracle: tests/golden/metrics.json, scores of scikit-learn and SciPy (tests/golden/make/metrics.py).
#include "tasks/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "core/files.h"
#include "text/sampling.h"

namespace deeplora {
namespace {

nlohmann::json golden(const char* kind) {
  return nlohmann::json::parse(read_file(DEEPLORA_TEST_DATA "/golden/metrics.json"))[kind];
}

double number(const nlohmann::json& value) {
  return value.is_string() ? std::stod(value.get<std::string>()) : value.get<double>();
}

std::vector<double> numbers(const nlohmann::json& list) {
  std::vector<double> out;
  for (const auto& item : list) out.push_back(number(item));
  return out;
}

void expect_score(double got, const nlohmann::json& expected, const std::string& what) {
  const double value = number(expected);
  if (std::isnan(value)) EXPECT_TRUE(std::isnan(got)) << what << " is " << got;
  else if (std::isinf(value)) EXPECT_EQ(got, value) << what;
  else EXPECT_NEAR(got, value, 1e-11 * std::max(1.0, std::abs(value))) << what;
}

TEST(MetricsTest, ClassScoresEqualScikitLearn) {
  std::set<std::string> names;
  for (const auto& row : golden("classes")) {
    const auto predicted = row["predicted"].get<std::vector<int64_t>>(),
               expected = row["expected"].get<std::vector<int64_t>>();
    const auto& scores = row["scores"];
    const auto name = row["name"].get<std::string>();
    expect_score(accuracy(predicted, expected), scores["accuracy"], name + ": accuracy");
    expect_score(f1_of_class(predicted, expected), scores["f1_of_class_1"], name + ": F1 of class 1");
    expect_score(f1_macro(predicted, expected), scores["f1_macro"], name + ": macro F1");
    expect_score(f1_weighted(predicted, expected), scores["f1_weighted"], name + ": weighted F1");
    expect_score(matthews(predicted, expected), scores["matthews"], name + ": Matthews");
    names.insert(name);
  }
  EXPECT_EQ(names.size(), 12u);
}

TEST(MetricsTest, ValueScoresEqualSciPyAndScikitLearn) {
  std::set<std::string> names;
  for (const auto& row : golden("values")) {
    const auto predicted = numbers(row["predicted"]), expected = numbers(row["expected"]);
    const auto& scores = row["scores"];
    const auto name = row["name"].get<std::string>();
    expect_score(pearson(predicted, expected), scores["pearson"], name + ": Pearson");
    expect_score(spearman(predicted, expected), scores["spearman"], name + ": Spearman");
    expect_score(mean_squared_error(predicted, expected), scores["mse"], name + ": MSE");
    expect_score(root_mean_squared_error(predicted, expected), scores["rmse"], name + ": RMSE");
    expect_score(mean_absolute_error(predicted, expected), scores["mae"], name + ": MAE");
    if (scores.contains("ranks")) {
      EXPECT_EQ(average_ranks(predicted), numbers(scores["ranks"])) << name;
    }
    names.insert(name);
  }
  EXPECT_EQ(names.size(), 13u);
}

TEST(MetricsTest, F1OfAnotherClassSwapsTheRoles) {
  const std::vector<int64_t> predicted = {0, 0, 1, 0}, expected = {0, 1, 1, 1};
  EXPECT_DOUBLE_EQ(f1_of_class(predicted, expected, 0), 2.0 * 1 / (3 + 1));
  EXPECT_DOUBLE_EQ(f1_of_class(predicted, expected, 1), 2.0 * 1 / (1 + 3));
}

TEST(MetricsTest, UndefinedScoresAreNaNAndNotZero) {
  const std::vector<int64_t> no_labels;
  const std::vector<double> none, one = {1}, constant = {0.1, 0.1, 0.1, 0.1, 0.1, 0.1}, rising = {1, 2, 3, 4, 5, 6};
  for (const double score :
       {accuracy(no_labels, no_labels), f1_of_class(no_labels, no_labels), f1_macro(no_labels, no_labels),
        f1_weighted(no_labels, no_labels), matthews(no_labels, no_labels), pearson(none, none), spearman(none, none),
        mean_squared_error(none, none), mean_absolute_error(none, none), pearson(one, one), spearman(one, one),
        pearson(constant, rising), spearman(rising, constant), exact_match({}, {})})
    EXPECT_TRUE(std::isnan(score));
  const std::vector<double> with_nan = {1, std::numeric_limits<double>::quiet_NaN(), 3}, three = {1, 2, 3};
  EXPECT_TRUE(std::isnan(pearson(with_nan, three)));
  EXPECT_TRUE(std::isnan(spearman(three, with_nan)));
}

TEST(MetricsTest, LengthsThatDifferAreRefused) {
  const std::vector<int64_t> one = {1}, two = {1, 2};
  const std::vector<double> a = {1}, b = {1, 2};
  EXPECT_THROW(accuracy(one, two), std::invalid_argument);
  EXPECT_THROW(matthews(two, one), std::invalid_argument);
  EXPECT_THROW(pearson(a, b), std::invalid_argument);
  EXPECT_THROW(mean_absolute_error(b, a), std::invalid_argument);
}

TEST(MetricsTest, ExactMatchTakesAnyReferenceAndIgnoresOuterSpace) {
  const std::vector<std::string> predicted = {" a b\n", "A b", "", "c"};
  const std::vector<std::vector<std::string>> references = {{"x", "a b"}, {"a b"}, {"  "}, {}};
  EXPECT_DOUBLE_EQ(exact_match(predicted, references), 0.5);
}

TEST(Thresholds, TheBestOfAllIsFoundAndTheNearestToAHalfAmongEquals) {
  SplitMix64 draw(3);
  for (int round = 0; round < 300; ++round) {
    std::vector<double> probabilities;
    std::vector<bool> positive;
    const size_t rows = 1 + draw.below(30);
    for (size_t i = 0; i < rows; ++i) {
      probabilities.push_back(static_cast<double>(draw.below(12)) / 11);
      positive.push_back(draw.below(3) == 0);
    }
    for (const std::string metric : {"accuracy", "f1", "matthews"}) {
      const auto score = [&](double threshold) {
        std::vector<int64_t> predicted, expected;
        for (size_t i = 0; i < rows; ++i) {
          predicted.push_back(probabilities[i] >= threshold);
          expected.push_back(positive[i]);
        }
        const double value = metric == "accuracy" ? accuracy(predicted, expected)
                             : metric == "f1"     ? f1_of_class(predicted, expected, 1)
                                                  : matthews(predicted, expected);
        return std::isnan(value) ? -2.0 : value;
      };
      const double found = best_threshold(probabilities, positive, metric);
      double best = -2;
      for (int i = 0; i <= 220; ++i) best = std::max(best, score(i / 220.0));
      EXPECT_NEAR(score(found), best, 1e-12) << metric << " round " << round;
      if (score(0.5) >= best - 1e-12) {
        EXPECT_EQ(score(found), score(0.5));
      }
    }
  }
}

TEST(Thresholds, AHalfIsKeptWhereItIsAsGoodAsAny) {
  EXPECT_EQ(best_threshold(std::vector<double>{0.1, 0.9}, {false, true}, "f1"), 0.5);
  EXPECT_EQ(best_threshold(std::vector<double>{}, {}, "f1"), 0.5);
  EXPECT_NEAR(best_threshold(std::vector<double>{0.1, 0.2, 0.3}, {false, true, true}, "f1"), 0.15, 1e-12);
}

}  // namespace
}  // namespace deeplora
