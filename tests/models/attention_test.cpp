// Oracle: softmax(q k^T / sqrt d) v of single sequences and heads in float64, and LibTorch's autograd through it.
#include "models/attention.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/errors.h"

namespace deeplora {
namespace {

const std::vector<int64_t> kOffsets{0, 1, 18, 34, 34, 105};  // lengths 1, 17, 16, 0, 71
constexpr int64_t kHeads = 3, kWidth = 20;
const SequenceAttentionShape kPlain{.heads = kHeads, .kv_heads = kHeads};

torch::Tensor reference(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v) {
  torch::Tensor out = torch::zeros_like(q);
  for (size_t s = 0; s + 1 < kOffsets.size(); ++s)
    for (int64_t h = 0; h < kHeads; ++h) {
      const auto part = [&](const torch::Tensor& x) {
        return x.slice(0, kOffsets[s], kOffsets[s + 1]).narrow(1, h * kWidth, kWidth);
      };
      const torch::Tensor weights = (part(q).matmul(part(k).t()) / std::sqrt(static_cast<double>(kWidth))).softmax(1);
      part(out).copy_(weights.matmul(part(v)));
    }
  return out;
}

std::vector<torch::Tensor> random_inputs() {
  torch::manual_seed(3);
  std::vector<torch::Tensor> out;
  for (int i = 0; i < 3; ++i)
    out.push_back((2 * torch::randn({kOffsets.back(), kHeads * kWidth})).set_requires_grad(true));
  return out;
}

TEST(AttentionTest, ValuesAndGradientsAreThoseOfEverySequenceAndHeadAlone) {
  const auto x = random_inputs();
  std::vector<torch::Tensor> wide;
  for (const auto& t : x) wide.push_back(t.detach().to(torch::kFloat64).set_requires_grad(true));
  const torch::Tensor out = sequence_attention(x[0], x[1], x[2], kPlain, kOffsets),
                      expected = reference(wide[0], wide[1], wide[2]);
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
  EXPECT_TRUE(torch::equal(sequence_attention(part(0), part(1), part(2), kPlain, kOffsets),
                           sequence_attention(x[0], x[1], x[2], kPlain, kOffsets)));
}

TEST(AttentionTest, DropoutKeepsTheMeanAndItsBackwardPassSeesTheSameMask) {
  const auto x = random_inputs();
  constexpr double kDropout = 0.3;
  const auto run = [&](const std::vector<torch::Tensor>& in, uint64_t seed) {
    torch::manual_seed(seed);
    return sequence_attention(in[0], in[1], in[2], {.heads = kHeads, .kv_heads = kHeads, .dropout = kDropout},
                              kOffsets);
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
  // The output is linear in v under one mask: sum(g out) = sum(dL/dv v). For q and k: central differences along a
  // direction.
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
    const double expected = (at(1e-2) - at(-1e-2)) / 2e-2,
                 found = (gradients[i] * direction).sum(torch::kFloat64).item<double>();
    EXPECT_NEAR(found, expected, 2e-2 * std::abs(expected) + 2e-2) << "input " << i;
  }
}

TEST(AttentionTest, FirstTokensAloneGetWhatTheyGetAmongTheOthers) {
  const auto x = random_inputs();
  const torch::Tensor starts = torch::tensor(std::vector<int64_t>{0, 1, 18, 34}),
                      filled = torch::tensor(std::vector<int64_t>{0, 1, 2, 4});
  for (const double dropout : {0.0, 0.3}) {
    const auto run = [&](const torch::Tensor& q, bool first_only) {
      torch::manual_seed(5);
      return sequence_attention(
          q, x[1], x[2], {.heads = kHeads, .kv_heads = kHeads, .first_only = first_only, .dropout = dropout}, kOffsets);
    };
    // The fourth sequence has no token: a row of NaN that nothing may read.
    torch::Tensor q = torch::full({5, kHeads * kWidth}, std::numeric_limits<float>::quiet_NaN());
    q = q.index_copy(0, filled, x[0].index_select(0, starts));
    const torch::Tensor alone = run(q, true), among = run(x[0], false).index_select(0, starts);
    EXPECT_LT((alone.index_select(0, filled) - among).abs().max().item<double>(), 1e-6) << dropout;
    EXPECT_EQ(alone[3].abs().max().item<float>(), 0);
    const torch::Tensor g = torch::randn_like(among);
    const auto ours = torch::autograd::grad({(alone.index_select(0, filled) * g).sum()}, x),
               theirs = torch::autograd::grad({(among * g).sum()}, x);
    for (size_t i = 0; i < 3; ++i)
      EXPECT_LT((ours[i] - theirs[i]).abs().max().item<double>(), 1e-5) << dropout << " input " << i;
  }
  EXPECT_NE(testing::error_of([&] {
              sequence_attention(x[0], x[1], x[2],
                                 {.heads = kHeads, .kv_heads = kHeads, .first_only = true, .causal = true}, kOffsets);
            }).find("neither is causal"),
            std::string::npos);
}

TEST(AttentionTest, NotANumberIsNotHidden) {
  auto x = random_inputs();
  const torch::NoGradGuard no_grad;
  x[0][50][0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(sequence_attention(x[0], x[1], x[2], kPlain, kOffsets)[50].isnan().any().item<bool>());
}

/// Causal attention of heads that share keys, with rotary positions and a window, as the definitions say.
torch::Tensor causal_reference(const std::vector<torch::Tensor>& x, const SequenceAttentionShape& shape,
                               const RotaryAngles& angles) {
  const int64_t width = x[0].size(1) / shape.heads, sharing = shape.heads / shape.kv_heads;
  const auto turned = [&](const torch::Tensor& t) {
    if (!angles.cosines.defined()) return t;
    const auto halves = t.view({t.size(0), -1, width}).chunk(2, -1);
    const torch::Tensor c = angles.cosines.unsqueeze(1), s = angles.sines.unsqueeze(1);
    return torch::cat({halves[0] * c - halves[1] * s, halves[1] * c + halves[0] * s}, -1).flatten(1);
  };
  const torch::Tensor q = turned(x[0]), k = turned(x[1]);
  std::vector<torch::Tensor> sequences;
  for (size_t s = 0; s + 1 < kOffsets.size(); ++s) {
    const int64_t tokens = kOffsets[s + 1] - kOffsets[s];
    const torch::Tensor distance = torch::arange(tokens).unsqueeze(1) - torch::arange(tokens);
    torch::Tensor hidden = distance < 0;
    if (shape.window > 0) hidden = hidden | (distance >= shape.window);
    std::vector<torch::Tensor> heads;
    for (int64_t h = 0; h < shape.heads; ++h) {
      const auto part = [&](const torch::Tensor& t, int64_t head) {
        return t.slice(0, kOffsets[s], kOffsets[s + 1]).narrow(1, head * width, width);
      };
      const torch::Tensor scores = shape.scale * part(q, h).matmul(part(k, h / sharing).t());
      heads.push_back(scores.masked_fill(hidden, -std::numeric_limits<double>::infinity())
                          .softmax(1)
                          .matmul(part(x[2], h / sharing)));
    }
    sequences.push_back(torch::cat(heads, 1));
  }
  return torch::cat(sequences);
}

TEST(AttentionTest, CausalWithSharedKeysRotaryPositionsAndAWindow) {
  for (const int64_t window : {0, 5, 40})
    for (const bool turns : {false, true}) {
      torch::manual_seed(7);
      const SequenceAttentionShape shape{.heads = 6, .kv_heads = 2, .scale = 0.3, .causal = true, .window = window};
      const torch::Tensor angle = torch::randn({kOffsets.back(), kWidth / 2}, torch::kFloat64);
      std::vector<torch::Tensor> x, wide;
      for (const int64_t heads : {6, 2, 2}) {
        x.push_back(torch::randn({kOffsets.back(), heads * kWidth}).set_requires_grad(true));
        wide.push_back(x.back().detach().to(torch::kFloat64).set_requires_grad(true));
      }
      const auto with = [&](torch::Dtype type) {
        return turns ? RotaryAngles{angle.cos().to(type), angle.sin().to(type)} : RotaryAngles{};
      };
      const torch::Tensor out = sequence_attention(x[0], x[1], x[2], shape, kOffsets, with(torch::kFloat32));
      const torch::Tensor expected = causal_reference(wide, shape, with(torch::kFloat64));
      EXPECT_LT((out - expected).abs().max().item<double>(), 2e-5) << window << turns;
      const torch::Tensor g = torch::randn_like(out);
      const auto ours = torch::autograd::grad({(out * g).sum()}, x),
                 theirs = torch::autograd::grad({(expected * g).sum()}, wide);
      for (size_t i = 0; i < 3; ++i)
        EXPECT_LT((ours[i] - theirs[i]).abs().max().item<double>(), 5e-5) << window << turns << " input " << i;
    }
}

/// A window on both sides, as the definition says.
torch::Tensor windowed_reference(const std::vector<torch::Tensor>& x, int64_t window) {
  std::vector<torch::Tensor> sequences;
  for (size_t s = 0; s + 1 < kOffsets.size(); ++s) {
    const torch::Tensor cells = torch::arange(kOffsets[s + 1] - kOffsets[s]);
    const torch::Tensor hidden = (cells.unsqueeze(1) - cells).abs() >= window;
    std::vector<torch::Tensor> heads;
    for (int64_t h = 0; h < kHeads; ++h) {
      const auto part = [&](const torch::Tensor& t) {
        return t.slice(0, kOffsets[s], kOffsets[s + 1]).narrow(1, h * kWidth, kWidth);
      };
      const torch::Tensor scores = part(x[0]).matmul(part(x[1]).t()) / std::sqrt(static_cast<double>(kWidth));
      heads.push_back(
          scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()).softmax(1).matmul(part(x[2])));
    }
    sequences.push_back(torch::cat(heads, 1));
  }
  return torch::cat(sequences);
}

TEST(AttentionTest, AWindowOnBothSides) {
  const torch::Tensor starts = torch::tensor(std::vector<int64_t>{0, 1, 18, 34}),
                      filled = torch::tensor(std::vector<int64_t>{0, 1, 2, 4});
  for (const int64_t window : {1, 2, 5, 16, 17, 70, 71}) {
    const auto x = random_inputs();
    std::vector<torch::Tensor> wide;
    for (const auto& t : x) wide.push_back(t.detach().to(torch::kFloat64).set_requires_grad(true));
    SequenceAttentionShape shape{.heads = kHeads, .kv_heads = kHeads, .window = window};
    const torch::Tensor out = sequence_attention(x[0], x[1], x[2], shape, kOffsets),
                        expected = windowed_reference(wide, window);
    EXPECT_LT((out - expected).abs().max().item<double>(), 2e-5) << window;
    const torch::Tensor g = torch::randn_like(out);
    const auto ours = torch::autograd::grad({(out * g).sum()}, x),
               theirs = torch::autograd::grad({(expected * g).sum()}, wide, {}, /*retain_graph=*/true);
    for (size_t i = 0; i < 3; ++i)
      EXPECT_LT((ours[i] - theirs[i]).abs().max().item<double>(), 5e-5) << window << " input " << i;
    // First tokens alone: keys that they do not see get no gradient.
    shape.first_only = true;
    const torch::Tensor queries =
        torch::zeros({5, kHeads * kWidth}).index_copy(0, filled, x[0].index_select(0, starts));
    const torch::Tensor alone = sequence_attention(queries, x[1], x[2], shape, kOffsets).index_select(0, filled),
                        among = expected.index_select(0, starts);
    EXPECT_LT((alone - among).abs().max().item<double>(), 2e-5) << window;
    const torch::Tensor h = torch::randn_like(alone);
    const auto firsts = torch::autograd::grad({(alone * h).sum()}, x),
               all = torch::autograd::grad({(among * h).sum()}, wide);
    for (size_t i = 0; i < 3; ++i)
      EXPECT_LT((firsts[i] - all[i]).abs().max().item<double>(), 5e-5) << window << " input " << i;
  }
}

TEST(AttentionTest, ATokenDoesNotSeeTheFuture) {
  torch::manual_seed(8);
  const SequenceAttentionShape shape{.heads = kHeads, .kv_heads = kHeads, .causal = true};
  auto x = random_inputs();
  const torch::NoGradGuard no_grad;
  const torch::Tensor before = sequence_attention(x[0], x[1], x[2], shape, kOffsets).clone();
  for (const auto& t : x) t.narrow(0, 70, 35).fill_(1e30);
  EXPECT_TRUE(
      torch::equal(sequence_attention(x[0], x[1], x[2], shape, kOffsets).narrow(0, 0, 70), before.narrow(0, 0, 70)));
}

}  // namespace
}  // namespace deeplora
