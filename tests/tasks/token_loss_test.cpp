// Oracle: torch::cross_entropy_loss in float64 and its own gradient.
#include "tasks/token_loss.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <array>

#include "support/tiny_archive.h"

namespace deeplora {
namespace {

struct Case {
  torch::Tensor logits, labels;
};

Case make_case(int64_t rows, int64_t tokens, int64_t vocabulary) {
  torch::manual_seed(4);
  Case out{torch::randn({rows, tokens, vocabulary}) * 3, torch::randint(vocabulary, {rows, tokens}, torch::kInt64)};
  out.labels.masked_fill_(torch::rand({rows, tokens}) < 0.4, kIgnored);
  return out;
}

std::pair<torch::Tensor, torch::Tensor> expected(const Case& c, double scale) {
  const torch::Tensor logits = c.logits.to(torch::kFloat64).detach().requires_grad_();
  const torch::Tensor loss =
      torch::cross_entropy_loss(logits.flatten(0, 1), c.labels.flatten(), {}, at::Reduction::Sum, kIgnored);
  (loss * scale).backward();
  return {loss.detach(), logits.grad()};
}

TEST(TokenLossTest, EqualsCrossEntropyForwardAndBackwardAlsoOverSeveralStretches) {
  // 2 * 40 cells of 60000 logits are three stretches.
  for (const auto& [rows, tokens, vocabulary] : std::vector<std::array<int64_t, 3>>{{3, 5, 11}, {2, 40, 60000}}) {
    const Case c = make_case(rows, tokens, vocabulary);
    const auto [loss, gradient] = expected(c, 0.25);
    torch::Tensor logits = c.logits.clone().requires_grad_();
    const torch::Tensor got = token_losses(logits, c.labels).sum(torch::kFloat64).to(torch::kFloat32);
    (got * 0.25).backward();
    EXPECT_NEAR(got.item<double>(), loss.item<double>(), 1e-5 * loss.item<double>());
    // LibTorch's float32 softmax over 60000 tokens is off by up to 2e-6, depending on the processor's vectors.
    EXPECT_LT((logits.grad() - gradient).abs().max().item<double>(), 4e-6);
  }
}

TEST(TokenLossTest, EveryTokenHasALossAndAGradientOfItsOwn) {
  const Case c = make_case(3, 40, 60000);
  torch::Tensor logits = c.logits.clone().requires_grad_(), wide = c.logits.to(torch::kFloat64).requires_grad_();
  const torch::Tensor each = token_losses(logits, c.labels), flat = c.labels.flatten();
  const torch::Tensor expected =
      torch::cross_entropy_loss(wide.flatten(0, 1), flat, {}, at::Reduction::None, kIgnored).index({flat != kIgnored});
  ASSERT_EQ(each.sizes(), expected.sizes());
  EXPECT_LT((each - expected).abs().max().item<double>(), 1e-5 * expected.abs().max().item<double>());
  const torch::Tensor weights = torch::randn(each.sizes());
  (each * weights).sum().backward();
  (expected * weights).sum().backward();
  EXPECT_LT((logits.grad() - wide.grad()).abs().max().item<double>(), 4e-6);
}

TEST(TokenLossTest, CellsWithoutLabelHaveNoGradient) {
  const Case c = make_case(4, 6, 9);
  torch::Tensor logits = c.logits.clone().requires_grad_();
  token_losses(logits, c.labels).sum().backward();
  const torch::Tensor ignored = c.labels == kIgnored;
  ASSERT_GT(ignored.sum().item<int64_t>(), 0);
  EXPECT_EQ(logits.grad().index({ignored}).abs().max().item<float>(), 0.0F);
  EXPECT_GT(logits.grad().index({ignored.logical_not()}).abs().min().item<float>(), 0.0F);
}

TEST(TokenLossTest, HalfPrecisionLogitsAreSummedInFloat32) {
  Case c = make_case(2, 7, 300);
  c.logits = c.logits.to(torch::kBFloat16);
  const auto [loss, gradient] = expected(c, 1);
  torch::Tensor logits = c.logits.clone().requires_grad_();
  const torch::Tensor got = token_losses(logits, c.labels).sum(torch::kFloat64).to(torch::kFloat32);
  got.backward();
  EXPECT_EQ(got.scalar_type(), torch::kFloat32);
  EXPECT_NEAR(got.item<double>(), loss.item<double>(), 1e-5 * loss.item<double>());
  EXPECT_EQ(logits.grad().scalar_type(), torch::kBFloat16);
  EXPECT_LT((logits.grad().to(torch::kFloat64) - gradient).abs().max().item<double>(), 5e-3);  // bfloat16 holds 8 bits
}

TEST(TokenLossTest, WithoutLabelsTheLossIsZero) {
  torch::Tensor logits = torch::randn({1, 2, 3}).requires_grad_();
  const torch::Tensor loss = token_losses(logits, torch::full({1, 2}, kIgnored, torch::kInt64)).sum();
  loss.backward();
  EXPECT_EQ(loss.item<float>(), 0.0F);
  EXPECT_EQ(logits.grad().abs().max().item<float>(), 0.0F);
}

TEST(TokenLossTest, ALabelBeyondTheVocabularyIsAnError) {
  const torch::Tensor labels = torch::full({1, 2}, 3, torch::kInt64);
  EXPECT_NE(testing::error_of([&] {
              token_losses(torch::randn({1, 2, 3}), labels);
            }).find("token 3 is beyond the model's vocabulary of 3"),
            std::string::npos);
}

}  // namespace
}  // namespace deeplora
