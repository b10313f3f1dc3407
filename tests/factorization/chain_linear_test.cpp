// Oracle: the same layer from single operators and LibTorch's own autograd.
#include "factorization/chain_linear.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "lm/autocast.h"

namespace deeplora {
namespace {

struct Layer {
  torch::Tensor x, weight, bias;
  std::vector<torch::Tensor> factors;
  double scale;
};

Layer make_layer(int64_t depth, bool with_bias, bool input_gradient, torch::ScalarType dtype) {
  torch::manual_seed(7 + depth);
  Layer layer;
  layer.x = torch::randn({2, 5, 12}, dtype).set_requires_grad(input_gradient);
  layer.weight = torch::randn({9, 12}, dtype);
  if (with_bias) layer.bias = torch::randn({9}, dtype);
  for (int64_t k = 0; k < depth; ++k)
    layer.factors.push_back(torch::randn({k + 1 == depth ? 9 : 4, k == 0 ? 12 : 4}, dtype).set_requires_grad(true));
  layer.scale = depth == 3 ? 1.0 : 1.7;
  return layer;
}

torch::Tensor by_operators(const Layer& layer) {
  torch::Tensor h = layer.x;
  for (const auto& factor : layer.factors) h = at::linear(h, factor);
  return at::linear(layer.x, layer.weight, layer.bias) + h * layer.scale;
}

/// Of a linear function of y, so that rounding of y itself is not counted again.
std::vector<torch::Tensor> gradients(const Layer& layer, const torch::Tensor& y) {
  std::vector<torch::Tensor> inputs = layer.factors;
  if (layer.x.requires_grad()) inputs.push_back(layer.x);
  return torch::autograd::grad({(y * torch::arange(y.numel()).cos().view_as(y).to(y.scalar_type())).sum()}, inputs);
}

void expect_close(const Layer& layer, double tolerance) {
  const torch::Tensor expected = by_operators(layer), y = linear_with_chain(layer.x, layer.weight, layer.bias, layer.factors, layer.scale);
  ASSERT_EQ(y.sizes(), expected.sizes());
  ASSERT_EQ(y.scalar_type(), expected.scalar_type());
  const auto relative = [](const torch::Tensor& a, const torch::Tensor& b) {
    return ((a - b).to(torch::kFloat64).norm() / b.to(torch::kFloat64).norm()).item<double>();
  };
  EXPECT_LT(relative(y, expected), tolerance);
  const auto ours = gradients(layer, y), theirs = gradients(layer, expected);
  for (size_t i = 0; i < ours.size(); ++i) {
    EXPECT_EQ(ours[i].scalar_type(), theirs[i].scalar_type());
    EXPECT_LT(relative(ours[i], theirs[i]), tolerance) << "gradient " << i;
  }
}

TEST(ChainLinearTest, ValuesAndGradientsAreThoseOfTheSingleOperators) {
  for (const int64_t depth : {1, 2, 3, 4})
    for (const bool with_bias : {true, false})
      for (const bool input_gradient : {true, false}) expect_close(make_layer(depth, with_bias, input_gradient, torch::kFloat64), 1e-13);
}

TEST(ChainLinearTest, UnderAutocastItComputesInBfloat16AndGivesFloat32GradientsToTheFactors) {
  const Autocast autocast(torch::kCPU, true);
  expect_close(make_layer(2, true, true, torch::kFloat32), 2e-2);
}

TEST(ChainLinearTest, FrozenFactorsGetNoGradient) {
  Layer layer = make_layer(3, true, true, torch::kFloat64);
  layer.factors[1].set_requires_grad(false);
  const torch::Tensor y = linear_with_chain(layer.x, layer.weight, layer.bias, layer.factors, layer.scale);
  const auto ours = torch::autograd::grad({y.sin().sum()}, {layer.factors[0], layer.factors[2]});
  const auto theirs = torch::autograd::grad({by_operators(layer).sin().sum()}, {layer.factors[0], layer.factors[2]});
  for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(at::allclose(ours[i], theirs[i], 1e-12, 1e-12));
}

TEST(ChainLinearTest, DoesNotServeTrainedWeightsOrMixedPrecision) {
  Layer layer = make_layer(2, true, true, torch::kFloat32);
  EXPECT_TRUE(can_fuse_chain(layer.x, layer.weight, layer.bias, layer.factors));
  EXPECT_FALSE(can_fuse_chain(layer.x, layer.weight.to(torch::kBFloat16), layer.bias, layer.factors));
  EXPECT_FALSE(can_fuse_chain(layer.x, layer.weight.clone().set_requires_grad(true), layer.bias, layer.factors));
}

}  // namespace
}  // namespace deeplora
