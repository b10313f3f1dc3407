#include "factorization/factor_chain.h"

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <stdexcept>

#include "core/error.h"
#include "core/random.h"
#include "tests/support/tensors.h"

namespace deeplora {
namespace {

using testing::close;
using testing::finite_differences;
using testing::golden;
using testing::tensor_from;

// Widths from input to output; Gaussian factors.
FactorChain random_chain(const std::vector<int64_t>& widths, double scale, at::ScalarType type = torch::kFloat64) {
  auto generator = make_generator(1, "chain");
  std::vector<Factor> factors;
  for (size_t i = 0; i + 1 < widths.size(); ++i)
    factors.push_back({cat("W", i + 1), torch::randn({widths[i + 1], widths[i]}, generator, type)});
  return FactorChain(std::move(factors), scale);
}

// Oracle: the factors multiplied one by one.
torch::Tensor dense(const FactorChain& chain) {
  torch::Tensor w = chain->factors().front().value;
  for (size_t i = 1; i < chain->factors().size(); ++i) w = torch::matmul(chain->factors()[i].value, w);
  return (chain->scale() * w).detach();
}

const std::vector<std::vector<int64_t>> kWidths = {{6, 5}, {6, 3, 5}, {5, 2, 2, 7}, {4, 9, 3, 8, 4}};

TEST(FactorChainTest, AppliesItsProductToAnyLeadingShapeInBothPrecisions) {
  for (const auto& widths : kWidths) {
    for (const auto type : {torch::kFloat64, torch::kFloat32}) {
      auto chain = random_chain(widths, 0.7, type);
      const double tolerance = type == torch::kFloat64 ? 1e-14 : 1e-6;  // a few roundings
      EXPECT_TRUE(close(chain->product(), dense(chain), tolerance));
      for (const std::vector<int64_t>& leading : {std::vector<int64_t>{}, {3}, {0}, {2, 3}, {2, 1, 3}}) {
        auto shape = leading;
        shape.push_back(chain->in());
        const auto x = torch::randn(shape, type);
        const auto y = chain->forward(x);
        EXPECT_EQ(y.scalar_type(), type);
        EXPECT_TRUE(close(y, torch::matmul(x, dense(chain).t()), 10 * tolerance)) << widths << leading;
      }
    }
  }
}

TEST(FactorChainTest, GivesRowsOfTheProductForIdsOfAnyShape) {
  for (const auto& widths : kWidths) {
    auto chain = random_chain(widths, -1.5);
    const int64_t last = chain->out() - 1;
    for (const auto& ids : {torch::tensor({0, int(last), 0}), torch::tensor({{1}, {0}}), torch::tensor(int(last))}) {
      const auto expected = torch::embedding(dense(chain), ids);
      EXPECT_TRUE(close(chain->rows(ids), expected, 1e-13)) << widths;
    }
  }
}

TEST(FactorChainTest, CollapsesExactlyToOnePairWithoutTheScale) {
  for (const auto& widths : kWidths) {
    auto chain = random_chain(widths, 3);
    const auto [b, a] = chain->collapse();
    EXPECT_TRUE(torch::equal(a, chain->factors().front().value));
    EXPECT_TRUE(close(3 * torch::matmul(b, a), dense(chain), 1e-14)) << widths;
    EXPECT_EQ(b.size(1), widths[1]);
  }
}

TEST(FactorChainTest, GradientsEqualCentralDifferences) {
  // Oracle: central differences in float64; their error is about step^2 + 1e-16 / step, 1e-9 here.
  for (const auto& widths : kWidths) {
    auto chain = random_chain(widths, 0.5);
    auto x = torch::randn({2, 2, chain->in()}, torch::kFloat64).requires_grad_();
    const auto ids = torch::tensor({{0, 1}, {1, 3}});
    const auto by_x = torch::randn({2, 2, chain->out()}, torch::kFloat64);
    const auto by_id = torch::randn({2, 2, chain->in()}, torch::kFloat64);
    const auto applied = [&] { return (chain->forward(x) * by_x).sum(); };
    const auto looked_up = [&] { return (chain->rows(ids) * by_id).sum(); };
    applied().backward();
    EXPECT_TRUE(close(x.grad(), finite_differences(applied, x.detach()), 1e-8));
    for (const auto& factor : chain->factors()) {
      EXPECT_TRUE(close(factor.value.grad(), finite_differences(applied, factor.value.detach()), 1e-8)) << factor.name;
    }
    chain->zero_grad();
    looked_up().backward();
    for (const auto& factor : chain->factors())
      EXPECT_TRUE(close(factor.value.grad(), finite_differences(looked_up, factor.value.detach()), 1e-8))
          << factor.name;
  }
}

FactorChain chain_from(const nlohmann::json& example) {
  std::vector<Factor> factors;
  for (const auto& value : example.at("factors"))
    factors.push_back({cat("W", factors.size() + 1), tensor_from(value), example.at("lr_scales").at(factors.size())});
  return FactorChain(std::move(factors), example.at("scale").get<double>());
}

TEST(FactorChainTest, OutputsAndGradientsEqualPyTorch) {
  const auto file = golden("factor_chain.json");
  for (const auto& example : file.at("cases")) {
    auto chain = chain_from(example);
    auto x = tensor_from(example.at("x")).requires_grad_();
    const auto y = chain->forward(x);
    EXPECT_TRUE(close(y, tensor_from(example.at("y")), 1e-14));
    (y * tensor_from(example.at("cotangent"))).sum().backward();
    EXPECT_TRUE(close(x.grad(), tensor_from(example.at("x_gradient")), 1e-14));
    const auto expect_gradients = [&](const std::string& key) {
      for (size_t i = 0; i < chain->factors().size(); ++i) {
        const auto& factor = chain->factors()[i];
        if (factor.lr_scale == 0) {
          EXPECT_FALSE(factor.value.grad().defined()) << "a frozen factor has a gradient";
        } else {
          EXPECT_TRUE(close(factor.value.grad(), tensor_from(example.at(key).at(i)), 1e-14)) << key << i;
        }
      }
    };
    expect_gradients("gradients");
    chain->zero_grad();
    const auto rows = chain->rows(tensor_from(example.at("ids"), torch::kInt64));
    EXPECT_TRUE(close(rows, tensor_from(example.at("rows")), 1e-14));
    (rows * tensor_from(example.at("rows_cotangent"))).sum().backward();
    expect_gradients("rows_gradients");
  }
}

TEST(FactorChainTest, TwentyAdamStepsEqualPyTorch) {
  const auto file = golden("factor_chain.json");
  for (const auto& example : file.at("cases")) {
    auto chain = chain_from(example);
    const double lr = example.at("lr").get<double>();
    std::vector<torch::optim::OptimizerParamGroup> groups;
    for (const auto& group : chain->param_groups()) {
      std::vector<torch::Tensor> params;
      for (const auto& param : group.params) params.push_back(param.value);
      groups.emplace_back(params, std::make_unique<torch::optim::AdamOptions>(lr * group.lr_scale));
    }
    torch::optim::Adam optimizer(groups, torch::optim::AdamOptions(lr));
    const auto x = tensor_from(example.at("x")), target = tensor_from(example.at("cotangent"));
    for (const auto& expected : example.at("losses")) {
      optimizer.zero_grad();
      const auto loss = (chain->forward(x) - target).square().mean();
      EXPECT_NEAR(loss.item<double>(), expected.get<double>(), 1e-12);
      loss.backward();
      optimizer.step();
    }
    for (size_t i = 0; i < chain->factors().size(); ++i)
      EXPECT_TRUE(close(chain->factors()[i].value, tensor_from(example.at("trained").at(i)), 1e-12)) << i;
  }
}

TEST(FactorChainTest, ComputesInItsOwnPrecisionAndAnswersInThatOfTheInput) {
  auto chain = random_chain({16, 4, 12}, 1, torch::kFloat32);
  const auto x = torch::randn({5, 16}).to(torch::kBFloat16);
  const auto y = chain->forward(x);
  EXPECT_EQ(y.scalar_type(), torch::kBFloat16);
  // One rounding of the float32 result; bfloat16 arithmetic inside would differ.
  const auto exact = torch::matmul(x.to(torch::kFloat32), dense(chain).t());
  EXPECT_TRUE(close(y, exact, 1.0 / 256));
  EXPECT_EQ(chain->product().scalar_type(), torch::kFloat32);
}

TEST(FactorChainTest, LeavesThePrecisionToAutocast) {
  auto chain = random_chain({16, 4, 12}, 1, torch::kFloat32);
  const auto x = torch::randn({5, 16});
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const auto y = chain->forward(x);
  const auto expected = at::linear(at::linear(x, chain->factors()[0].value), chain->factors()[1].value);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();
  EXPECT_EQ(expected.scalar_type(), torch::kBFloat16);
  EXPECT_EQ(y.scalar_type(), torch::kFloat32);
  EXPECT_TRUE(torch::equal(y, expected.to(torch::kFloat32)));
}

TEST(FactorChainTest, GroupsTrainedFactorsByLearningRateAndLeavesFrozenOnesOut) {
  const auto m = [](int64_t rows, int64_t cols) { return torch::ones({rows, cols}); };
  FactorChain chain(
      std::vector<Factor>{{"V", m(2, 5), 0.01}, {"W1", m(2, 2)}, {"F", m(2, 2), 0}, {"U", m(4, 2), 0.01}});
  const auto groups = chain->param_groups();
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].lr_scale, 0.01);
  ASSERT_EQ(groups[0].params.size(), 2u);
  EXPECT_EQ(groups[0].params[0].name, "V");
  EXPECT_EQ(groups[0].params[1].name, "U");
  EXPECT_EQ(groups[1].lr_scale, 1);
  ASSERT_EQ(groups[1].params.size(), 1u);
  EXPECT_TRUE(groups[1].params[0].value.is_same(chain->factors()[1].value));
  EXPECT_FALSE(chain->factors()[2].value.requires_grad());
  EXPECT_EQ(chain->width(), 2);
  EXPECT_EQ(chain->depth(), 4);
}

TEST(FactorChainTest, OwnsItsValuesAndStaysLiveUnderConversion) {
  const auto given = torch::ones({3, 4});
  FactorChain chain(std::vector<Factor>{{"W", given}});
  {
    torch::NoGradGuard no_grad;
    chain->factors()[0].value.mul_(2);
  }
  EXPECT_EQ(given.max().item<double>(), 1);
  chain->to(torch::kFloat64);
  EXPECT_EQ(chain->product().scalar_type(), torch::kFloat64);
  EXPECT_EQ(chain->product().max().item<double>(), 2);
}

TEST(FactorChainTest, RefusesFactorsThatDoNotFitNamingAllMismatches) {
  const auto make = [](std::vector<Factor> factors) { return FactorChain(std::move(factors)); };
  try {
    make({{"A", torch::ones({3, 4})},
          {"A", torch::ones({5, 2})},
          {"C", torch::ones({2})},
          {"D", torch::ones({2, 2}), -1}});
    FAIL() << "accepted";
  } catch (const std::invalid_argument& error) {
    const std::string what = error.what();
    for (const char* part :
         {"two factors are named 'A'", "[5, 2] does not fit 'A' [3, 4]", "'C' is not", "'D' has learning-rate"})
      EXPECT_NE(what.find(part), std::string::npos) << what;
  }
  EXPECT_THROW(make({}), std::invalid_argument);
  EXPECT_THROW(make({{"A", torch::ones({3, 4})}, {"B", torch::ones({5, 3}, torch::kFloat64)}}), std::invalid_argument);
  EXPECT_THROW(make({{"A", torch::ones({3, 4}, torch::kInt64)}}), std::invalid_argument);
}

}  // namespace
}  // namespace deeplora
