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
  const torch::Tensor expected = by_operators(layer),
                      y = linear_with_chain(layer.x, layer.weight, layer.bias, layer.factors, layer.scale);
  ASSERT_EQ(y.sizes(), expected.sizes());
  ASSERT_EQ(y.scalar_type(), layer.x.scalar_type());
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
      for (const bool input_gradient : {true, false})
        expect_close(make_layer(depth, with_bias, input_gradient, torch::kFloat64), 1e-13);
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
  EXPECT_TRUE(can_fuse_chain(layer.x, layer.weight.to(torch::kBFloat16), layer.bias, layer.factors));
  EXPECT_FALSE(can_fuse_chain(layer.x, layer.weight.to(torch::kFloat64), layer.bias, layer.factors));
  EXPECT_FALSE(can_fuse_chain(layer.x, layer.weight.clone().set_requires_grad(true), layer.bias, layer.factors));
}

TEST(ChainLinearTest, LayersAsOneHaveTheValuesAndGradientsOfTheLayersSideBySide) {
  torch::manual_seed(5);
  const torch::Tensor x = torch::randn({2, 5, 12}, torch::kFloat64).set_requires_grad(true),
                      weight = torch::randn({9 + 6, 12}, torch::kFloat64);
  const auto factor = [](int64_t out, int64_t in) {
    return torch::randn({out, in}, torch::kFloat64).set_requires_grad(true);
  };
  const std::vector<ChainLayer> layers{{9, {{factor(3, 12), factor(9, 3)}, 1.5}}, {6, {}}};
  const torch::Tensor apart = at::cat(linear_with_chains(x, weight, {}, layers), -1),
                      one = linear_with_chains_as_one(x, weight, {}, layers);
  EXPECT_TRUE(torch::equal(one, apart));
  const std::vector<torch::Tensor> inputs{x, layers[0].update.factors[0], layers[0].update.factors[1]};
  const auto ours = torch::autograd::grad({one.sin().sum()}, inputs),
             theirs = torch::autograd::grad({apart.sin().sum()}, inputs);
  for (size_t i = 0; i < inputs.size(); ++i) EXPECT_TRUE(at::allclose(ours[i], theirs[i], 1e-12, 1e-12)) << i;
}

TEST(ChainLinearTest, LayersOfOneInputGiveTheSameTogetherAsAlone) {
  for (const bool input_gradient : {true, false}) {
    torch::manual_seed(3);
    const torch::Tensor x = torch::randn({2, 5, 12}, torch::kFloat64).set_requires_grad(input_gradient);
    const torch::Tensor weight = torch::randn({9 + 6 + 4 + 7, 12}, torch::kFloat64),
                        bias = torch::randn({26}, torch::kFloat64);
    const auto factor = [](int64_t out, int64_t in) {
      return torch::randn({out, in}, torch::kFloat64).set_requires_grad(true);
    };
    // chains of two, none, three and one factor
    const std::vector<ChainLayer> layers{{9, {{factor(3, 12), factor(9, 3)}, 1.5}},
                                         {6, {}},
                                         {4, {{factor(2, 12), factor(5, 2), factor(4, 5)}, 0.5}},
                                         {7, {{factor(7, 12)}, 2.0}}};
    const auto together = linear_with_chains(x, weight, bias, layers);
    ASSERT_EQ(together.size(), 4U);
    torch::Tensor ours_sum = torch::zeros({}, torch::kFloat64), sum = torch::zeros({}, torch::kFloat64);
    std::vector<torch::Tensor> inputs;
    int64_t row = 0;
    for (size_t i = 0; i < layers.size(); ++i) {
      const auto& [out, update] = layers[i];
      Layer alone{x, weight.narrow(0, row, out), bias.narrow(0, row, out), update.factors, update.scale};
      row += out;
      const torch::Tensor expected =
          update.factors.empty() ? at::linear(x, alone.weight, alone.bias) : by_operators(alone);
      EXPECT_TRUE(at::allclose(together[i], expected, 1e-12, 1e-12)) << "layer " << i;
      if (i == 2) continue;  // one whose output nothing reads: zeros for its factors
      ours_sum = ours_sum + together[i].sin().sum(), sum = sum + expected.sin().sum();
      inputs.insert(inputs.end(), update.factors.begin(), update.factors.end());
    }
    if (input_gradient) inputs.push_back(x);
    const auto ours = torch::autograd::grad({ours_sum}, inputs), theirs = torch::autograd::grad({sum}, inputs);
    for (size_t i = 0; i < inputs.size(); ++i)
      EXPECT_TRUE(at::allclose(ours[i], theirs[i], 1e-12, 1e-12)) << "gradient " << i;
  }
}

TEST(ChainLinearTest, PartsThatLieSideBySideAreJoinedWithoutACopy) {
  const torch::Tensor whole = torch::arange(24, torch::kFloat64).view({3, 8});
  const auto part = [&](int64_t from, int64_t width) { return whole.narrow(1, from, width); };
  EXPECT_EQ(side_by_side({part(0, 2), part(2, 3), part(5, 3)}).data_ptr(), whole.data_ptr());
  for (const auto& parts : std::vector<std::vector<torch::Tensor>>{
           {part(0, 2), part(5, 3)}, {part(2, 3), part(0, 2)}, {part(0, 8), part(0, 8)}})
    EXPECT_TRUE(torch::equal(side_by_side(parts), at::cat(parts, 1)));
  EXPECT_NE(side_by_side({part(0, 2), part(2, 3)}).data_ptr(), whole.data_ptr());  // a whole row is longer
}

/// A loss of two layers' outputs after operators that a model's own code may run on them, in place or not.
torch::Tensor loss_behind(const std::vector<torch::Tensor>& outputs, bool in_place) {
  torch::Tensor loss = torch::zeros({}, outputs.front().options());
  for (const torch::Tensor& output : outputs) {
    torch::Tensor y = output;
    const torch::Tensor hidden = y.detach() > 1;
    if (in_place) {
      y.mul_(2);
      y.add_(y.detach() * 0.5);
      y.masked_fill_(hidden, 0.25);
      y.select(1, 0).fill_(0.5);
      y.relu_();
    } else {
      y = y * 2;
      y = y + y.detach() * 0.5;
      y = y.masked_fill(hidden, 0.25);
      y = torch::cat({torch::full_like(y.narrow(1, 0, 1), 0.5), y.narrow(1, 1, y.size(1) - 1)}, 1);
      y = torch::relu(y);
    }
    loss = loss + (y * y).sum();
  }
  return loss;
}

TEST(ChainLinearTest, OutputsMayBeChangedInPlace) {
  for (const int64_t depth : {0, 1, 3})
    for (const int kind : {0, 1, 2}) {
      const Layer layer = make_layer(depth, true, true, torch::kFloat32);
      const std::vector<ChainLayer> two{{4, {}}, {5, {}}}, one{{9, {layer.factors, layer.scale}}};
      const auto outputs = [&]() -> std::vector<torch::Tensor> {
        if (kind == 0) return {linear_with_chain(layer.x, layer.weight, layer.bias, layer.factors, layer.scale)};
        if (kind == 1) return linear_with_chains(layer.x, layer.weight, layer.bias, two);
        return {linear_with_chains_as_one(layer.x, layer.weight, layer.bias, one)};
      };
      const torch::Tensor changed = loss_behind(outputs(), true), fresh = loss_behind(outputs(), false);
      EXPECT_TRUE(torch::equal(changed, fresh));
      std::vector<torch::Tensor> inputs{layer.x};
      if (kind != 1) inputs.insert(inputs.end(), layer.factors.begin(), layer.factors.end());
      const auto a = torch::autograd::grad({changed}, inputs), b = torch::autograd::grad({fresh}, inputs);
      for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(torch::equal(a[i], b[i])) << depth << kind << i;
    }
}

}  // namespace
}  // namespace deeplora
