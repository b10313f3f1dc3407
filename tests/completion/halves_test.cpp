// Oracle: autograd through the dense product of the chain.
#include "completion/halves.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "completion/problem.h"
#include "completion/residuals.h"
#include "core/random.h"

namespace deeplora {
namespace {

FactorChain random_chain(const std::vector<int64_t>& widths) {
  at::Generator g = make_generator(1, "chain");
  std::vector<Factor> factors;
  for (size_t i = 0; i + 1 < widths.size(); ++i)
    factors.push_back({"W" + std::to_string(i + 1), at::randn({widths[i + 1], widths[i]}, g, torch::kFloat64)});
  return FactorChain(std::move(factors));
}

Observations some_entries(int64_t rows, int64_t cols) {
  at::Generator g = make_generator(2, "entries");
  const torch::Tensor places = (at::rand({rows, cols}, g, torch::kFloat64) < 0.4).nonzero();
  return Observations::make(rows, cols, places.select(1, 0), places.select(1, 1),
                            at::randn({places.size(0)}, g, torch::kFloat64));
}

class HalvesOfChain : public testing::TestWithParam<std::vector<int64_t>> {};

TEST_P(HalvesOfChain, GradientOfEveryFactorMatchesAutograd) {
  const auto widths = GetParam();
  const Observations observed = some_entries(widths.back(), widths.front());
  FactorChain chain = random_chain(widths);
  const torch::Tensor place = observed.row.to(torch::kInt64) * observed.cols + observed.col;
  const torch::Tensor loss = (chain->product().reshape(-1).index_select(0, place) - observed.value).square().sum() / 2;
  loss.backward();
  std::vector<torch::Tensor> expected;
  for (const auto& factor : chain->factors()) expected.push_back(factor.value.grad().clone());

  ChainHalves halves(chain);
  const int64_t narrowest = *std::min_element(widths.begin() + 1, widths.end() - 1);
  EXPECT_EQ(halves.width(), narrowest);
  Residuals residuals(observed, halves.width(), torch::kFloat64);
  EXPECT_NEAR(halves.gradient(residuals, 0.25), loss.item<double>(), 1e-10 * loss.item<double>());
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_TRUE(at::allclose(chain->factors()[i].value.grad(), expected[i] / 4, 1e-10, 1e-9)) << i;
}

INSTANTIATE_TEST_SUITE_P(Shapes, HalvesOfChain,
                         testing::Values(std::vector<int64_t>{9, 3, 7}, std::vector<int64_t>{9, 3, 3, 7},
                                         std::vector<int64_t>{9, 4, 4, 4, 4, 7}, std::vector<int64_t>{9, 6, 2, 5, 7},
                                         std::vector<int64_t>{6, 8, 7, 5, 3, 4, 9}, std::vector<int64_t>{5, 6, 6, 5}));

TEST(ChainHalvesTest, FeedbackThatEqualsTheFactorsIsTheExactGradient) {
  for (const auto& widths : {std::vector<int64_t>{9, 4, 4, 4, 7}, std::vector<int64_t>{9, 6, 5, 3, 7, 7}}) {
    const Observations observed = some_entries(widths.back(), widths.front());
    FactorChain chain = random_chain(widths), same = random_chain(widths);
    std::vector<torch::Tensor> factors;
    for (const auto& factor : chain->factors()) factors.push_back(factor.value.detach().clone());
    ChainHalves exact(chain), through(same, factors);
    Residuals residuals(observed, exact.width(), torch::kFloat64);
    exact.gradient(residuals, 1);
    through.gradient(residuals, 1);
    for (size_t i = 0; i < factors.size(); ++i)
      EXPECT_TRUE(at::allclose(chain->factors()[i].value.grad(), same->factors()[i].value.grad(), 1e-10, 1e-9)) << i;
  }
}

}  // namespace
}  // namespace deeplora
