// Oracle: softmax(q k^T / sqrt d) v of single sequences and heads in float64, and LibTorch's autograd through it.
#include "models/attention.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace deeplora {
namespace {

const std::vector<int64_t> kOffsets{0, 1, 18, 34, 34, 105};  // lengths 1, 17, 16, 0, 71
constexpr int64_t kHeads = 3, kWidth = 20;

torch::Tensor reference(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v) {
  torch::Tensor out = torch::zeros_like(q);
  for (size_t s = 0; s + 1 < kOffsets.size(); ++s)
    for (int64_t h = 0; h < kHeads; ++h) {
      const auto part = [&](const torch::Tensor& x) { return x.slice(0, kOffsets[s], kOffsets[s + 1]).narrow(1, h * kWidth, kWidth); };
      const torch::Tensor weights = (part(q).matmul(part(k).t()) / std::sqrt(static_cast<double>(kWidth))).softmax(1);
      part(out).copy_(weights.matmul(part(v)));
    }
  return out;
}

std::vector<torch::Tensor> random_inputs() {
  torch::manual_seed(3);
  std::vector<torch::Tensor> out;
  for (int i = 0; i < 3; ++i) out.push_back((2 * torch::randn({kOffsets.back(), kHeads * kWidth})).set_requires_grad(true));
  return out;
}

TEST(AttentionTest, ValuesAndGradientsAreThoseOfEverySequenceAndHeadAlone) {
  const auto x = random_inputs();
  std::vector<torch::Tensor> wide;
  for (const auto& t : x) wide.push_back(t.detach().to(torch::kFloat64).set_requires_grad(true));
  const torch::Tensor out = sequence_attention(x[0], x[1], x[2], kHeads, kOffsets, 0.0), expected = reference(wide[0], wide[1], wide[2]);
  EXPECT_LT((out - expected).abs().max().item<double>(), 2e-5);
  const torch::Tensor g = torch::randn_like(out);
  const auto ours = torch::autograd::grad({(out * g).sum()}, x);
  const auto theirs = torch::autograd::grad({(expected * g).sum()}, wide);
  for (size_t i = 0; i < 3; ++i) EXPECT_LT((ours[i] - theirs[i]).abs().max().item<double>(), 5e-5) << "input " << i;
}

TEST(AttentionTest, RowsOfAWiderMatrixAreReadInPlace) {
  const auto x = random_inputs();
  const torch::Tensor together = torch::cat(x, 1);
  const auto part = [&](int64_t i) { return together.narrow(1, i * kHeads * kWidth, kHeads * kWidth); };
  EXPECT_TRUE(torch::equal(sequence_attention(part(0), part(1), part(2), kHeads, kOffsets, 0.0),
                           sequence_attention(x[0], x[1], x[2], kHeads, kOffsets, 0.0)));
}

TEST(AttentionTest, DropoutKeepsTheMeanAndItsBackwardPassSeesTheSameMask) {
  const auto x = random_inputs();
  constexpr double kDropout = 0.3;
  const auto run = [&](const std::vector<torch::Tensor>& in, uint64_t seed) {
    torch::manual_seed(seed);
    return sequence_attention(in[0], in[1], in[2], kHeads, kOffsets, kDropout);
  };
  EXPECT_TRUE(torch::equal(run(x, 5), run(x, 5)));
  EXPECT_FALSE(torch::equal(run(x, 5), run(x, 6)));
  torch::Tensor mean = torch::zeros_like(x[0]);
  {
    const torch::NoGradGuard no_grad;
    constexpr int kRuns = 600;
    for (int i = 0; i < kRuns; ++i) mean += run(x, static_cast<uint64_t>(i)) / kRuns;
    EXPECT_LT((mean - reference(x[0], x[1], x[2])).abs().mean().item<double>(), 0.05);
  }
  // The output is linear in v under one mask: sum(g out) = sum(dL/dv v). For q and k: central differences along a direction.
  const torch::Tensor out = run(x, 9), g = torch::randn_like(out);
  const auto gradients = torch::autograd::grad({(out * g).sum()}, x);
  const double along_v = (gradients[2] * x[2]).sum().item<double>(), value = (out * g).sum().item<double>();
  EXPECT_NEAR(along_v, value, 1e-3 * std::abs(value) + 1e-3);
  const torch::NoGradGuard no_grad;
  for (const size_t i : {0UL, 1UL}) {
    const torch::Tensor direction = torch::randn_like(x[i]);
    const auto at = [&](double step) {
      auto moved = x;
      moved[i] = x[i] + step * direction;
      return (run(moved, 9) * g).sum(torch::kFloat64).item<double>();
    };
    const double expected = (at(1e-2) - at(-1e-2)) / 2e-2, found = (gradients[i] * direction).sum(torch::kFloat64).item<double>();
    EXPECT_NEAR(found, expected, 2e-2 * std::abs(expected) + 2e-2) << "input " << i;
  }
}

TEST(AttentionTest, NotANumberIsNotHidden) {
  auto x = random_inputs();
  const torch::NoGradGuard no_grad;
  x[0][50][0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(sequence_attention(x[0], x[1], x[2], kHeads, kOffsets, 0.0)[50].isnan().any().item<bool>());
}

}  // namespace
}  // namespace deeplora
