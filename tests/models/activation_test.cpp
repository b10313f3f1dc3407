// Oracle: LibTorch's gelu and its autograd, in float64.
#include "models/activation.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <torch/torch.h>

#include <string>

namespace deeplora {
namespace {

/// Values about zero and far from it, in a shape that fills no whole register.
torch::Tensor values(int64_t rows, int64_t width) {
  torch::manual_seed(rows * 100 + width);
  torch::Tensor x = torch::randn({rows, width}) * 4;
  x.view({-1}).slice(0, 0, 4).copy_(torch::tensor({0.0F, -0.0F, 40.0F, -40.0F}));
  return x.set_requires_grad(true);
}

TEST(ActivationTest, GeluAndItsGradientAreLibTorchs) {
  for (const std::string name : {"gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast"})
    for (const int64_t width : {4, 37, 64}) {
      const torch::Tensor x = values(9, width), wide = x.detach().to(torch::kFloat64).set_requires_grad(true);
      const torch::Tensor y = activate(x, name), expected = at::gelu(wide, name == "gelu" ? "none" : "tanh");
      EXPECT_LT((y - expected).abs().max().item<double>(), 2e-6) << name;
      // What comes down is read by others too, and need not be contiguous.
      const torch::Tensor down = torch::randn({width, 9}).t(), before = down.clone();
      const torch::Tensor ours = torch::autograd::grad({y}, {x}, {down}).front();
      const torch::Tensor theirs = torch::autograd::grad({expected}, {wide}, {down.to(torch::kFloat64)}).front();
      EXPECT_LT((ours - theirs).abs().max().item<double>(), 5e-6) << name;
      EXPECT_TRUE(at::equal(down, before)) << name;
    }
}

TEST(ActivationTest, OtherKindsOfTensorsTakeLibTorchsWay) {
  const torch::Tensor x = values(6, 8).detach();
  EXPECT_TRUE(at::allclose(activate(x.to(torch::kFloat64), "gelu"), at::gelu(x.to(torch::kFloat64))));
  EXPECT_TRUE(at::allclose(activate(x.t(), "gelu"), at::gelu(x.t()), 1e-5, 1e-6));
  EXPECT_TRUE(at::equal(activate(x.to(torch::kBFloat16), "gelu"), at::gelu(x.to(torch::kBFloat16))));
}

/// Every batch has another number of tokens. oneDNN would keep 50 KB for each.
TEST(ActivationTest, NothingIsKeptForANumberOfTokens) {
  const auto pass = [](int64_t tokens) {
    const torch::Tensor x = values(tokens, 64);
    activate(x, "gelu").sum().backward();
  };
  pass(10);
  const size_t before = mallinfo2().uordblks;
  for (int64_t tokens = 11; tokens < 211; ++tokens) pass(tokens);
  EXPECT_LT(static_cast<double>(mallinfo2().uordblks) - static_cast<double>(before), 1 << 20);
}

}  // namespace
}  // namespace deeplora
