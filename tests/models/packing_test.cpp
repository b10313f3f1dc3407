#include "models/packing.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "lm/autocast.h"

namespace deeplora {
namespace {

TEST(PackingTest, PackedAttentionEqualsPaddedAttentionPerSequence) {
  torch::manual_seed(1);
  const torch::Tensor mask = torch::tensor({{1, 1, 1, 1, 1}, {1, 1, 0, 0, 0}, {1, 1, 1, 0, 0}}, torch::kInt64);
  const auto x = torch::randn({3, 5, 8}, torch::kFloat64);
  const auto q = torch::randn({8, 8}, torch::kFloat64), k = torch::randn({8, 8}, torch::kFloat64),
             v = torch::randn({8, 8}, torch::kFloat64);
  const Packing packing(mask, 3, 5, torch::kCPU);
  const torch::Tensor packed = packing.pack(x);
  ASSERT_EQ(packed.size(0), 10);
  const torch::Tensor ours =
      packing.unpack(packed_attention(packed.matmul(q), packed.matmul(k), packed.matmul(v), 2, packing, 0.0));
  // Oracle: softmax(q k^T / sqrt d) v, one sequence and head at a time.
  for (int64_t b = 0; b < 3; ++b) {
    const int64_t n = mask[b].sum().item<int64_t>();
    const torch::Tensor rows = x[b].narrow(0, 0, n);
    for (int64_t h = 0; h < 2; ++h) {
      const auto part = [&](const torch::Tensor& w) { return rows.matmul(w).narrow(1, 4 * h, 4); };
      const torch::Tensor expected = (part(q).matmul(part(k).t()) / 2.0).softmax(1).matmul(part(v));
      EXPECT_LT((ours[b].narrow(0, 0, n).narrow(1, 4 * h, 4) - expected).abs().max().item<double>(), 1e-12);
    }
    if (n < 5) {
      EXPECT_EQ(ours[b].narrow(0, n, 5 - n).abs().max().item<double>(), 0.0);
    }
  }
}

TEST(PackingTest, FirstTokensAloneGetWhatTheyGetAmongTheOthers) {
  torch::manual_seed(4);
  for (const bool pads : {true, false}) {
    const torch::Tensor mask =
        pads ? torch::tensor({{1, 1, 1, 1, 1}, {1, 0, 0, 0, 0}, {1, 1, 1, 0, 0}}, torch::kInt64) : torch::Tensor();
    const Packing packing(mask, 3, 5, torch::kCPU);
    EXPECT_TRUE(packing.has_first_tokens());
    for (const auto dtype : {torch::kFloat64, torch::kFloat32}) {  // LibTorch's attention and ours
      const torch::Tensor x = packing.pack(torch::randn({3, 5, 8}, dtype)), k = torch::randn_like(x),
                          v = torch::randn_like(x);
      const torch::Tensor among = packing.first_tokens(packed_attention(x, k, v, 2, packing, 0.0));
      const torch::Tensor alone = packed_attention(packing.first_tokens(x), k, v, 2, packing, 0.0, /*first_only=*/true);
      EXPECT_LT((alone - among).abs().max().item<double>(), 1e-6) << pads << dtype;
    }
  }
  EXPECT_FALSE(Packing(torch::tensor({{1, 1}, {0, 1}}), 2, 2, torch::kCPU).has_first_tokens());
}

TEST(PackingTest, GapsAreSeenWhereTokensStandApart) {
  const auto of = [](std::vector<int64_t> cells) {
    return Packing(torch::tensor(cells).view({2, 3}), 2, 3, torch::kCPU).has_no_gaps();
  };
  EXPECT_TRUE(of({1, 1, 1, 1, 1, 1}) && of({1, 1, 0, 0, 1, 1}) && of({0, 1, 0, 0, 0, 0}));
  EXPECT_FALSE(of({1, 1, 1, 1, 0, 1}));
  EXPECT_TRUE(Packing({}, 2, 3, torch::kCPU).has_no_gaps());
}

TEST(PackingTest, LongSequencesWithDropoutKeepTheMeanAndPassGradientsThroughTheSameMask) {
  const torch::Tensor mask = (torch::arange(40).unsqueeze(0) < torch::tensor({{40}, {25}})).to(torch::kInt64);
  const Packing packing(mask, 2, 40, torch::kCPU);
  torch::manual_seed(2);
  const torch::Tensor q = torch::randn({65, 8}), k = torch::randn({65, 8}),
                      v = torch::randn({65, 8}).set_requires_grad(true);
  const auto run = [&](uint64_t seed, double dropout) {
    torch::manual_seed(seed);
    return packed_attention(q, k, v, 2, packing, dropout);
  };
  const torch::Tensor plain = run(1, 0.0).detach(), out = run(1, 0.25);
  EXPECT_TRUE(torch::equal(out, run(1, 0.25)));
  EXPECT_FALSE(torch::equal(out, run(2, 0.25)));
  const torch::Tensor g = torch::randn_like(out);
  const torch::Tensor gradient = torch::autograd::grad({(out * g).sum()}, {v})[0];
  const double value = (out * g).sum().item<double>();
  EXPECT_NEAR((gradient * v).sum().item<double>(), value, 1e-3 * std::abs(value) + 1e-3);  // linear in v under one mask
  torch::Tensor mean = torch::zeros_like(plain);
  constexpr int kRuns = 400;
  for (int i = 0; i < kRuns; ++i) mean += run(static_cast<uint64_t>(i), 0.25).detach() / kRuns;
  EXPECT_LT((mean - plain).abs().mean().item<double>(), 0.03);
}

TEST(PackingTest, UnderAutocastRowsComeInMultiplesOf32AndSpareOnesChangeNothing) {
  const torch::Tensor mask = (torch::arange(40).unsqueeze(0) < torch::tensor({{40}, {25}})).to(torch::kInt64);
  torch::manual_seed(3);
  const torch::Tensor x = torch::randn({2, 40, 8}).set_requires_grad(true), g = torch::randn({2, 40, 8});
  const auto run = [&] {
    const Packing packing(mask, 2, 40, torch::kCPU);
    const torch::Tensor packed = packing.pack(x);
    const torch::Tensor out =
        packing.unpack(packed_attention(packed, packed.sin(), packed.cos(), 2, packing, 0.0) + packed);
    return std::tuple(packed.size(0), out.detach(), torch::autograd::grad({(out * g).sum()}, {x})[0]);
  };
  const auto [rows, out, gradient] = run();
  EXPECT_EQ(rows, 65);
  const Autocast autocast(torch::kCPU, true);
  const auto [more, same, same_gradient] = run();
  EXPECT_EQ(more, 96);
  EXPECT_TRUE(torch::equal(same, out));
  EXPECT_TRUE(at::allclose(same_gradient, gradient, 1e-5, 1e-6));
}

TEST(PackingTest, WithoutPaddingNothingIsCopiedOrMasked) {
  const Packing packing(torch::ones({2, 3}, torch::kInt64), 2, 3, torch::kCPU);
  EXPECT_FALSE(packing.attention_mask().defined());
  const torch::Tensor x = torch::randn({2, 3, 4});
  EXPECT_EQ(packing.pack(x).data_ptr(), x.data_ptr());
  EXPECT_TRUE(torch::equal(packing.unpack(packing.pack(x)), x));
}

TEST(PackingTest, UnderAutocastRowsWithoutPaddingAreRoundedUpToo) {
  torch::manual_seed(6);
  const torch::Tensor x = torch::randn({3, 7, 8}), mask = torch::ones({3, 7}, torch::kInt64);
  const Autocast autocast(torch::kCPU, true);
  const Packing packing(mask, 3, 7, torch::kCPU), whole(torch::ones({4, 8}, torch::kInt64), 4, 8, torch::kCPU),
      bare({}, 3, 7, torch::kCPU);
  const torch::Tensor packed = packing.pack(x);
  EXPECT_EQ(packed.size(0), 32);
  EXPECT_FALSE(packing.attention_mask().defined());
  EXPECT_TRUE(torch::equal(packed.narrow(0, 0, 21), x.flatten(0, 1)));
  EXPECT_TRUE(torch::equal(packing.unpack(packed), x));
  EXPECT_TRUE(torch::equal(packing.first_tokens(packed), x.select(1, 0)));
  EXPECT_EQ(whole.pack(torch::ones({4, 8, 2})).size(0), 32);
  EXPECT_EQ(bare.pack(x).size(0), 21);  // of tokens decoded one by one
}

}  // namespace
}  // namespace deeplora
