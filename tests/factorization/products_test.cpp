// Oracles: the same products in float64 of the operands as bfloat16 holds them; LibTorch's casts and activations.
#include "factorization/products.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>

#include "lm/autocast.h"

namespace deeplora {
namespace {

const ProductTypes kWidening{torch::kBFloat16, torch::kFloat32};

torch::Tensor wide(const torch::Tensor& x) { return x.to(torch::kFloat64); }

double error(const torch::Tensor& found, const torch::Tensor& expected) {
  return ((wide(found) - expected).norm() / expected.norm()).item<double>();
}

TEST(ProductTypesTest, AutocastOnTheCpuTakesBfloat16AndGivesFloat32) {
  const torch::Tensor x = torch::zeros({1, 1});
  EXPECT_EQ(ProductTypes::of(x).operand, torch::kFloat32);
  const Autocast autocast(torch::kCPU, true);
  EXPECT_EQ(ProductTypes::of(x).operand, torch::kBFloat16);
  EXPECT_EQ(ProductTypes::of(x).result, torch::kFloat32);
}

TEST(ProductTypesTest, SumsAreNotRoundedWhateverTheLayout) {
  torch::manual_seed(1);
  const torch::Tensor tall = torch::randn({40, 300}).to(torch::kBFloat16),
                      square = torch::randn({300, 300}).to(torch::kBFloat16);
  const torch::Tensor part = torch::randn({300, 50}).to(torch::kBFloat16).narrow(1, 7, 20);
  for (const auto& [a, b] : std::vector<std::pair<torch::Tensor, torch::Tensor>>{{tall, square},
                                                                                 {tall, square.t()},
                                                                                 {tall.t().contiguous().t(), square},
                                                                                 {tall, part},
                                                                                 {part.t(), square},
                                                                                 {tall.narrow(0, 3, 1), part}}) {
    const torch::Tensor expected = wide(a).matmul(wide(b)), found = kWidening.product(a, b);
    EXPECT_EQ(found.scalar_type(), torch::kFloat32);
    EXPECT_LT(error(found, expected), 1e-6);
    torch::Tensor sum = torch::ones({a.size(0), b.size(1) + 5}).narrow(1, 2, b.size(1));
    kWidening.add_product(sum, a, b, 0.5);
    EXPECT_LT(error(sum, 1 + 0.5 * expected), 1e-6);
    kWidening.product_into(sum, a, b, 2.0);
    EXPECT_LT(error(sum, 2 * expected), 1e-6);
    const torch::Tensor bias = torch::randn({b.size(1)});
    EXPECT_LT(error(kWidening.biased_product(bias, a, b), expected + wide(bias)), 1e-6);
  }
}

TEST(ProductTypesTest, BiasedProductsOfOneTypeEqualAddmm) {
  torch::manual_seed(2);
  for (const auto dtype : {torch::kFloat32, torch::kFloat64}) {
    const torch::Tensor a = torch::randn({70, 9}, dtype), b = torch::randn({9, 300}, dtype),
                        bias = torch::randn({300}, dtype);
    EXPECT_TRUE(at::allclose(ProductTypes{dtype, dtype}.biased_product(bias, a, b), at::addmm(bias, a, b), 1e-6, 1e-6));
  }
}

/// Numbers of every size, and some on the border between two bfloat16 numbers.
torch::Tensor numbers() {
  torch::manual_seed(3);
  torch::Tensor x = torch::randn({40000}) * torch::pow(10.0, torch::randint(-30, 30, {40000}));
  const float inf = std::numeric_limits<float>::infinity();
  x.narrow(0, 0, 8).copy_(torch::tensor(
      {1.00390625F, 1.01171875F, -1.00390625F, 0.0F, -0.0F, inf, -inf, std::numeric_limits<float>::max()}));
  return x;
}

TEST(InputFunctionTest, RoundsToBfloat16AsLibTorchDoes) {
  const torch::Tensor x = numbers();
  EXPECT_TRUE(torch::equal(rounded_to(x, torch::kBFloat16), x.to(torch::kBFloat16)));
  EXPECT_TRUE(rounded_to(torch::full({3}, std::nanf("")), torch::kBFloat16).isnan().all().item<bool>());
}

struct Named {
  InputFunction function;
  const char* approximate;
};

TEST(InputFunctionTest, GeluAndItsDerivativeAreLibTorchs) {
  const torch::Tensor x = torch::cat({torch::linspace(-12, 12, 50001), torch::tensor({-90.0F, 90.0F, 0.0F})});
  for (const Named& named : {Named{InputFunction::gelu, "none"}, Named{InputFunction::gelu_tanh, "tanh"}}) {
    torch::Tensor input = wide(x).set_requires_grad(true);
    const torch::Tensor expected = at::gelu(input, named.approximate);
    EXPECT_LT((wide(applied(named.function, x, torch::kFloat32)) - expected)
                  .abs()
                  .div(1 + expected.abs())
                  .max()
                  .item<double>(),
              3e-7)
        << named.approximate;
    EXPECT_TRUE(torch::equal(applied(named.function, x, torch::kBFloat16),
                             applied(named.function, x, torch::kFloat32).to(torch::kBFloat16)));
    torch::Tensor g = torch::full_like(x, 3);
    EXPECT_LT((wide(gradient_before(named.function, g, x)) - 3 * torch::autograd::grad({expected.sum()}, {input})[0])
                  .abs()
                  .max()
                  .item<double>(),
              6e-6)
        << named.approximate;
    EXPECT_TRUE(applied(named.function, torch::full({3}, std::nanf("")), torch::kFloat32).isnan().all().item<bool>());
  }
}

TEST(InputFunctionTest, AGateIsLibTorchsFunctionTimesTheOtherHalf) {
  // The other half multiplies what the function is off by.
  const auto expect_gate = [](InputFunction function, const torch::Tensor& kept, const torch::Tensor& input,
                              const torch::Tensor& expected) {
    const auto halves = wide(kept).abs().chunk(2, -1);
    const torch::Tensor ours = applied(function, kept, torch::kFloat32);
    EXPECT_LT((wide(ours) - expected).abs().div(1 + expected.abs() + halves[1]).max().item<double>(), 1e-6);
    EXPECT_TRUE(torch::equal(applied(function, kept, torch::kBFloat16), ours.to(torch::kBFloat16)));
    const torch::Tensor g = torch::full(expected.sizes(), 3.0F),
                        theirs = 3 * torch::autograd::grad({expected.sum()}, {input})[0];
    const torch::Tensor scale = 1 + theirs.abs() + torch::cat({halves[1], halves[0]}, -1);
    EXPECT_LT((wide(gradient_before(function, g, kept)) - theirs).abs().div(scale).max().item<double>(), 5e-6);
  };
  for (const int64_t width : {5, 1200}) {  // less and more than one stretch
    const torch::Tensor x = 20 * torch::randn({70, 2 * width});
    for (const torch::Tensor& kept : {x, x.to(torch::kBFloat16), x / 10}) {
      SCOPED_TRACE(width);
      const torch::Tensor input = wide(kept).set_requires_grad(true);
      const auto halves = input.chunk(2, -1);
      expect_gate(InputFunction::silu_gate, kept, input, at::silu(halves[0]) * halves[1]);
      expect_gate(InputFunction::gelu_gate, kept, input, at::gelu(halves[0]) * halves[1]);
      expect_gate(InputFunction::gelu_tanh_gate, kept, input, at::gelu(halves[0], "tanh") * halves[1]);
    }
  }
}

}  // namespace
}  // namespace deeplora
