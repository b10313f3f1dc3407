// Oracle: tests/golden/optimizer.json, 20 steps of PyTorch's optimizers and clip_grad_norm_ in float64
// (tests/golden/make/train.py).
#include "train/optimizers.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "train/gradients.h"
#include "train/schedule.h"

namespace deeplora {
namespace {

using Json = nlohmann::json;

Json golden(const char* kind) { return Json::parse(read_file(DEEPLORA_TEST_DATA "/golden/optimizer.json"))[kind]; }

torch::Tensor tensor(const Json& rows) {
  if (!rows[0].is_array()) return torch::tensor(rows.get<std::vector<double>>(), torch::kFloat64);
  std::vector<torch::Tensor> out;
  for (const auto& row : rows) out.push_back(tensor(row));
  return torch::stack(out);
}

std::vector<torch::Tensor> tensors(const Json& list) {
  std::vector<torch::Tensor> out;
  for (const auto& item : list) out.push_back(tensor(item));
  return out;
}

/// The problem of the golden file: minimise 1/2 curvature (p - target)^2.
struct Problem {
  explicit Problem(const Json& row)
      : lr(row["lr"]),
        schedule{"linear", 20, row["warmup"]},
        targets(tensors(row["targets"])),
        curvatures(tensors(row["curvatures"])) {
    const auto start = tensors(row["start"]);
    for (size_t i = 0; i < start.size(); ++i)
      groups[i == 0 ? 0 : 1].params.push_back({cat("p", i), start[i].clone().requires_grad_()});
  }

  std::vector<torch::Tensor> parameters() const {
    return {groups[0].params[0].value, groups[1].params[0].value, groups[1].params[1].value};
  }

  void step(GroupOptimizer& optimizer, int64_t number) {
    const auto all = parameters();
    for (size_t i = 0; i < all.size(); ++i)
      all[i].mutable_grad() = i == 2 && number % 2 ? torch::Tensor() : curvatures[i] * (all[i].detach() - targets[i]);
    optimizer.set_learning_rate(lr * schedule.factor(number));
    optimizer.step();
  }

  double lr;
  Schedule schedule;
  std::vector<torch::Tensor> targets, curvatures;
  std::vector<ParamGroup> groups = {{.params = {}, .lr_scale = 1.0, .decay = true},
                                    {.params = {}, .lr_scale = 10.0, .decay = false}};
};

OptimizerOptions options_of(const Json& row) {
  return {.name = row["name"],
          .beta1 = 0.8,
          .beta2 = 0.99,
          .eps = 1e-6,
          .weight_decay = row["weight_decay"],
          .momentum = 0.9};
}

TEST(OptimizersTest, TwentyStepsWithTwoGroupsEqualPyTorch) {
  const Json rows = golden("optimizers");
  ASSERT_EQ(rows.size(), 4u);
  for (const auto& row : rows) {
    Problem problem(row);
    GroupOptimizer optimizer(options_of(row), problem.groups);
    for (int64_t step = 0; step < 20; ++step) {
      problem.step(optimizer, step);
      const auto expected = tensors(row["course"][static_cast<size_t>(step)]);
      for (size_t i = 0; i < expected.size(); ++i) {
        const auto difference = (problem.parameters()[i].detach().flatten() - expected[i]).abs().max().item<double>();
        ASSERT_LT(difference, 1e-13) << row["name"] << ", step " << step << ", parameter " << i;
      }
    }
  }
}

TEST(OptimizersTest, ARestoredStateGoesOnWithTheSameBits) {
  for (const auto& row : golden("optimizers")) {
    Problem through(row), broken(row);
    GroupOptimizer one(options_of(row), through.groups);
    auto two = std::make_unique<GroupOptimizer>(options_of(row), broken.groups);
    for (int64_t step = 0; step < 20; ++step) {
      through.step(one, step);
      const auto kept = two->state();
      two = std::make_unique<GroupOptimizer>(options_of(row), broken.groups);
      two->restore(kept);
      broken.step(*two, step);
    }
    for (size_t i = 0; i < 3; ++i)
      EXPECT_TRUE(torch::equal(through.parameters()[i], broken.parameters()[i])) << row["name"] << i;
    const auto a = one.state(), b = two->state();
    ASSERT_EQ(a.size(), b.size());
    ASSERT_GE(a.size(), 3u);
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].name, b[i].name);
      EXPECT_TRUE(torch::equal(a[i].value, b[i].value)) << a[i].name;
    }
  }
}

TEST(OptimizersTest, AStateThatDoesNotFitIsOneErrorWithEveryDifference) {
  const Json row = golden("optimizers")[0];
  Problem problem(row);
  GroupOptimizer optimizer(options_of(row), problem.groups);
  problem.step(optimizer, 0);
  auto state = optimizer.state();
  state[0].name = "gone/exp_avg";
  state.push_back({"p1/momentum_buffer", torch::zeros({4})});
  for (auto& entry : state)
    if (entry.name == "p1/exp_avg") entry.value = torch::zeros({5});
  try {
    optimizer.restore(state);
    FAIL() << "restored a state that does not fit";
  } catch (const Error& e) {
    const std::string text = e.what();
    for (const char* part : {"gone is not trained", "p1/momentum_buffer belongs to another optimizer",
                             "p1/exp_avg: expected [4]", "p0: its optimizer state is incomplete"})
      EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
  }
}

TEST(OptimizersTest, UnknownNamesAndDoubleParametersAreRefused) {
  const std::vector<ParamGroup> groups = {{.params = {{"a", torch::zeros({1}).requires_grad_()}}}};
  EXPECT_THROW(GroupOptimizer({.name = "adamm"}, groups), Error);
  EXPECT_THROW(GroupOptimizer({}, {groups[0], groups[0]}), std::logic_error);
}

TEST(GradientsTest, ClippingByTheGlobalNormEqualsPyTorch) {
  const Json rows = golden("clipping");
  ASSERT_EQ(rows.size(), 3u);
  for (const auto& row : rows) {
    ParamGroup group;
    for (const auto& values : tensors(row["gradients"])) {
      group.params.push_back({cat("p", group.params.size()), values.clone().requires_grad_()});
      group.params.back().value.mutable_grad() = values.clone();
    }
    group.params.push_back({"without gradient", torch::zeros({2}).requires_grad_()});
    const double norm = gradient_norm({group});
    EXPECT_NEAR(norm, row["norm"].get<double>(), 1e-14);
    clip_gradients({group}, norm, row["largest"]);
    for (size_t i = 0; i < 3; ++i) {
      const auto difference = group.params[i].value.grad().flatten() - tensor(row["clipped"][i]);
      EXPECT_LT(difference.abs().max().item<double>(), 1e-14) << "largest " << row["largest"];
    }
  }
}

TEST(GradientsTest, TheFirstParameterWithANaNIsNamed) {
  std::vector<ParamGroup> groups(2);
  for (const char* name : {"a", "b", "c"}) {
    auto& params = groups[name[0] == 'a' ? 0 : 1].params;
    params.push_back({name, torch::ones({2}).requires_grad_()});
    params.back().value.mutable_grad() = torch::ones({2});
  }
  groups[1].params[0].value.mutable_grad()[1] = std::nan("");
  groups[1].params[1].value.mutable_grad()[0] = std::nan("");
  EXPECT_EQ(offending_parameter(groups), "b");
  EXPECT_TRUE(std::isnan(gradient_norm(groups)));
  EXPECT_EQ(first_non_finite(groups), "");
}

}  // namespace
}  // namespace deeplora
