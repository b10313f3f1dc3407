// Oracle of the logistic head: tests/golden/logistic.json, scikit-learn's LogisticRegression
// (tests/golden/make/logistic.py).
#include "tasks/contrastive.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <map>

#include "support/errors.h"
#include "support/tensors.h"
#include "tasks/logistic.h"

namespace deeplora {
namespace {

using testing::close;
using testing::error_of;
using testing::golden;
using testing::tensor_from;

TEST(LogisticTest, CoefficientsAreThoseOfScikitLearn) {
  const auto cases = golden("logistic.json");
  ASSERT_GE(cases.size(), 6u);
  for (const auto& c : cases) {
    const torch::Tensor x = tensor_from(c.at("x")), y = tensor_from(c.at("y"), torch::kInt64);
    const torch::Tensor weight = tensor_from(c.at("weight")), bias = tensor_from(c.at("bias"));
    const LogisticFit fit = fit_logistic(x, y, c.at("classes"));
    if (weight.size(0) > 1) {
      EXPECT_TRUE(close(fit.weight, weight, 1e-4)) << c.at("name");
      EXPECT_TRUE(close(fit.bias - fit.bias.mean(), bias - bias.mean(), 1e-4)) << c.at("name");
    } else {  // scikit-learn keeps the difference of the two
      EXPECT_TRUE(close(fit.weight.slice(0, 1) - fit.weight.slice(0, 0, 1), weight, 1e-4)) << c.at("name");
      EXPECT_TRUE(close(fit.bias.slice(0, 1) - fit.bias.slice(0, 0, 1), bias, 1e-4)) << c.at("name");
    }
    const torch::Tensor found = torch::softmax(torch::linear(x, fit.weight, fit.bias), 1);
    EXPECT_TRUE(close(found, tensor_from(c.at("probabilities")), 1e-4)) << c.at("name");
  }
}

TEST(LogisticTest, ClassesThatDoNotOccurHaveNoProbability) {
  torch::manual_seed(2);
  const torch::Tensor x = torch::randn({9, 3}, torch::kFloat64);
  const torch::Tensor y = torch::tensor({0, 3, 3, 0, 3, 0, 3, 0, 0}, torch::kInt64);
  const LogisticFit some = fit_logistic(x, y, 5), alone = fit_logistic(x, (y == 3).to(torch::kInt64), 2);
  const torch::Tensor p = torch::softmax(torch::linear(x, some.weight, some.bias), 1);
  EXPECT_TRUE(close(p.select(1, 3), torch::softmax(torch::linear(x, alone.weight, alone.bias), 1).select(1, 1), 1e-7));
  for (const int64_t absent : {1, 2, 4}) EXPECT_EQ(p.select(1, absent).max().item<double>(), 0);
  EXPECT_NE(error_of([&] { fit_logistic(x, torch::zeros_like(y), 2); }).find("two labels"), std::string::npos);
}

TEST(ContrastiveTest, EveryTwoRowsAreAPairAndBothKindsAreAsMany) {
  std::vector<Example> rows(7);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i].input_ids = {static_cast<int64_t>(i)};
    rows[i].label = i < 4 ? 0 : 1;
    rows[i].labelled = true;
  }
  std::map<std::pair<int64_t, int64_t>, size_t> seen;
  const auto pairs = contrastive_pairs(rows);
  size_t same = 0;
  for (const auto& pair : pairs) {
    ASSERT_EQ(pair.others.size(), 1u);
    EXPECT_FALSE(pair.labelled || pair.others[0].labelled);
    const int64_t a = pair.input_ids[0], b = pair.others[0].input_ids[0];
    EXPECT_LE(a, b);
    EXPECT_EQ(pair.targets, std::vector{(a < 4) == (b < 4) ? 1.0 : 0.0});
    same += pair.targets.front() == 1;
    ++seen[{a, b}];
  }
  EXPECT_EQ(seen.size(), 28u);  // of seven rows
  EXPECT_EQ(same, 16u);         // 4 x 3 are unlike, 10 + 6 alike
  EXPECT_EQ(pairs.size(), 32u);
  for (const auto& [unused, count] : seen) EXPECT_LE(count, 2u);
  for (auto& row : rows) row.label = 0;
  EXPECT_NE(error_of([&] { contrastive_pairs(rows); }).find("single label"), std::string::npos);
}

}  // namespace
}  // namespace deeplora
