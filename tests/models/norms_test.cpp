// Oracle: LibTorch's layer norm and its autograd, in float64.
#include "models/norms.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "models/dropout.h"

namespace deeplora {
namespace {

struct Case {
  torch::Tensor x, residual, weight, bias;
};

/// `width` 37: rows that fill no whole register.
Case make_case(int64_t width) {
  torch::manual_seed(width);
  return {torch::randn({50, width}).set_requires_grad(true), torch::randn({50, width}).set_requires_grad(true),
          torch::randn({width}), torch::randn({width})};
}

torch::Tensor in_float64(const Case& c, const torch::Tensor& mask) {
  const auto wide = [](const torch::Tensor& x) { return x.to(torch::kFloat64); };
  return at::layer_norm(wide(c.x) * wide(mask) + wide(c.residual), {c.x.size(1)}, wide(c.weight), wide(c.bias), 1e-12);
}

void expect_same(const Case& c, const torch::Tensor& y, const torch::Tensor& expected) {
  EXPECT_LT((y - expected).abs().max().item<double>(), 1e-5);
  const torch::Tensor along = torch::arange(y.numel()).cos().view_as(y);
  const auto ours = torch::autograd::grad({(y * along).sum()}, {c.x, c.residual});
  const auto theirs = torch::autograd::grad({(expected * along).sum()}, {c.x, c.residual});
  for (size_t i = 0; i < 2; ++i) EXPECT_LT((ours[i] - theirs[i]).abs().max().item<double>(), 1e-5) << i;
}

TEST(NormOfSumTest, ValuesAndGradientsAreThoseOfTheSingleOperators) {
  for (const int64_t width : {37, 64, 384}) {
    const Case c = make_case(width);
    expect_same(c, norm_of_sum(c.x, c.residual, c.weight, c.bias, 1e-12, 0.0), in_float64(c, torch::ones_like(c.x)));
  }
}

TEST(NormOfSumTest, DropsWhatDropoutAddDrops) {
  const Case c = make_case(48);
  torch::manual_seed(3);
  const torch::Tensor mask = dropout_add(torch::ones_like(c.x), torch::zeros_like(c.x), 0.3);
  torch::manual_seed(3);
  const torch::Tensor y = norm_of_sum(c.x, c.residual, c.weight, c.bias, 1e-12, 0.3);
  EXPECT_GT((mask == 0).sum().item<int64_t>(), 0);
  expect_same(c, y, in_float64(c, mask));
}

TEST(NormOfSumTest, TrainedWeightsAndOtherPrecisionsGetTheirGradients) {
  Case c = make_case(16);
  c.weight.set_requires_grad(true);
  const auto gradient =
      torch::autograd::grad({norm_of_sum(c.x, c.residual, c.weight, c.bias, 1e-12, 0.0).sin().sum()}, {c.weight})[0];
  EXPECT_GT(gradient.abs().sum().item<double>(), 0);
  const torch::Tensor wide = torch::randn({4, 16}, torch::kFloat64), one = torch::ones({16}, torch::kFloat64);
  EXPECT_LT((norm_of_sum(wide, wide, one, one, 1e-12, 0.0) - at::layer_norm(2 * wide, {16}, one, one, 1e-12))
                .abs()
                .max()
                .item<double>(),
            1e-12);
}

TEST(RmsNormTest, ValuesAndGradientsAreThoseOfTheFormula) {
  for (const int64_t width : {37, 64, 576}) {
    const Case c = make_case(width);
    const torch::Tensor wide = c.x.to(torch::kFloat64);
    const torch::Tensor expected = wide * (wide.square().mean(-1, true) + 1e-5).rsqrt() * c.weight.to(torch::kFloat64);
    const torch::Tensor y = rms_norm(c.x, c.weight, 1e-5), along = torch::arange(y.numel()).cos().view_as(y);
    EXPECT_LT((y - expected).abs().max().item<double>(), 1e-5);
    const auto ours = torch::autograd::grad({(y * along).sum()}, {c.x}),
               theirs = torch::autograd::grad({(expected * along).sum()}, {c.x});
    EXPECT_LT((ours[0] - theirs[0]).abs().max().item<double>(), 1e-5);
  }
}

}  // namespace
}  // namespace deeplora
