#include "models/dropout.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace deeplora {
namespace {

TEST(DropoutTest, KeepsTheRightShareScaledAndPassesGradientsThroughTheSameMask) {
  torch::manual_seed(1);
  const torch::Tensor x = torch::ones({400, 300}).set_requires_grad(true),
                      residual = torch::full({400, 300}, 2.0F).set_requires_grad(true);
  const torch::Tensor y = dropout_add(x, residual, 0.2);
  const torch::Tensor kept = y.detach() > 2;
  EXPECT_NEAR(kept.to(torch::kFloat64).mean().item<double>(), 0.8, 0.005);
  EXPECT_NEAR(kept.to(torch::kFloat64).mean(0).min().item<double>(), 0.8, 0.1);  // no column is treated otherwise
  EXPECT_NEAR(kept.to(torch::kFloat64).mean(1).min().item<double>(), 0.8, 0.12);
  EXPECT_TRUE(torch::equal(y.detach(), 2 + kept.to(torch::kFloat32) * 1.25F));
  const auto gradients = torch::autograd::grad({(3 * y).sum()}, {x, residual});
  EXPECT_TRUE(torch::equal(gradients[0], kept.to(torch::kFloat32) * 1.25F * 3));
  EXPECT_TRUE(torch::equal(gradients[1], torch::full_like(residual, 3)));
}

TEST(DropoutTest, TheMaskFollowsTheDefaultGeneratorAndNotTheNumberOfThreads) {
  const torch::Tensor x = torch::randn({1000, 129});
  const auto run = [&](uint64_t seed, int threads) {
    const int before = at::get_num_threads();
    at::set_num_threads(threads);
    torch::manual_seed(seed);
    const torch::Tensor first = seeded_dropout(x, 0.5), second = seeded_dropout(x, 0.5);
    at::set_num_threads(before);
    EXPECT_FALSE(torch::equal(first, second));
    return first;
  };
  EXPECT_TRUE(torch::equal(run(4, 1), run(4, 2)));
  EXPECT_FALSE(torch::equal(run(4, 1), run(5, 1)));
}

TEST(DropoutTest, NothingIsDroppedAtProbabilityZero) {
  const torch::Tensor x = torch::randn({3, 4}), residual = torch::randn({3, 4});
  EXPECT_TRUE(torch::equal(dropout_add(x, residual, 0.0), x + residual));
  EXPECT_TRUE(seeded_dropout(x, 0.0).is_same(x));
}

}  // namespace
}  // namespace deeplora
