// Oracle: the same products in float64 of the operands as bfloat16 holds them.
#include "factorization/weight_panels.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "factorization/chain_linear.h"
#include "lm/autocast.h"

namespace deeplora {
namespace {

torch::Tensor rounded(const torch::Tensor& x) { return x.to(torch::kBFloat16).to(torch::kFloat64); }

double error(const torch::Tensor& found, const torch::Tensor& expected) {
  return ((found.to(torch::kFloat64) - expected).norm() / expected.norm()).item<double>();
}

TEST(WeightPanelsTest, GiveBothProductsOfTheWeight) {
  torch::manual_seed(1);
  for (const auto& [m, n] : std::vector<std::pair<int64_t, int64_t>>{{64, 128}, {96, 64}, {32, 32}, {192, 1536}}) {
    const torch::Tensor weight = torch::randn({m, n}), bias = torch::randn({m});
    const WeightPanels panels = WeightPanels::of(weight);
    if (!panels.defined()) GTEST_SKIP() << "this processor or LibTorch has none";
    for (const int64_t rows : {1, 32, 77}) {
      const torch::Tensor x = torch::randn({rows, n}), g = torch::randn({rows, m});
      const torch::Tensor product = rounded(x).matmul(rounded(weight).t());
      EXPECT_LT(error(panel_product(x.to(torch::kBFloat16), panels.forward, {}), product), 1e-6);
      EXPECT_LT(error(panel_product(x.to(torch::kBFloat16), panels.forward, bias), product + bias), 1e-6);
      EXPECT_LT(error(panel_product(g.t().contiguous().t().to(torch::kBFloat16), panels.backward, {}),
                      rounded(g).matmul(rounded(weight))),
                1e-6);
    }
  }
}

TEST(WeightPanelsTest, AreNotMadeOfWeightsThatDoNotDivide) {
  EXPECT_FALSE(WeightPanels::of(torch::randn({33, 64})).defined());
  EXPECT_FALSE(WeightPanels::of(torch::randn({64, 8})).defined());
}

TEST(WeightPanelsTest, ALayerWithThemIsTheLayerWithoutThem) {
  const Autocast autocast(torch::kCPU, true);
  torch::manual_seed(2);
  const torch::Tensor weight = torch::randn({64, 32}), bias = torch::randn({64}),
                      x = torch::randn({50, 32}).set_requires_grad(true);
  const std::vector<torch::Tensor> factors{torch::randn({4, 32}).set_requires_grad(true),
                                           torch::randn({64, 4}).set_requires_grad(true)};
  const auto run = [&](const WeightPanels& panels) {
    const torch::Tensor y = linear_with_chain(x, {weight, panels}, bias, factors, 0.5);
    auto out = torch::autograd::grad({y.sin().sum()}, {x, factors[0], factors[1]});
    out.push_back(y.detach());
    return out;
  };
  const auto with = run(WeightPanels::of(weight)), without = run({});
  for (size_t i = 0; i < with.size(); ++i) EXPECT_LT(error(with[i], without[i].to(torch::kFloat64)), 1e-3) << i;
}

}  // namespace
}  // namespace deeplora
