// Oracle: LibTorch's cross-entropy of all logits in float64.
#include "models/output_loss.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>
#include <vector>

#include "core/error.h"
#include "lm/autocast.h"
#include "lm/language_model.h"
#include "models/autocast_copy.h"
#include "support/errors.h"

namespace deeplora {
namespace {

struct Case {
  int64_t tokens, width, vocabulary;
};

/// One token, an odd vocabulary, several stretches.
const std::vector<Case> kCases{{1, 8, 5}, {33, 16, 1037}, {70, 24, 200'000}};

torch::Tensor each_of(const torch::Tensor& states, const torch::Tensor& weight, const torch::Tensor& labels) {
  return torch::nn::functional::cross_entropy(states.matmul(weight.t()), labels,
                                              torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kNone));
}
torch::Tensor reference(const torch::Tensor& states, const torch::Tensor& weight, const torch::Tensor& labels) {
  return each_of(states, weight, labels).sum();
}

TEST(OutputLossTest, ValueAndGradientAreThoseOfAllLogits) {
  for (const auto& [tokens, width, vocabulary] : kCases) {
    torch::manual_seed(1);
    const torch::Tensor states = torch::randn({tokens, width}).set_requires_grad(true),
                        weight = torch::randn({vocabulary, width});
    const torch::Tensor labels = torch::randint(vocabulary, {tokens}, torch::kInt64);
    const torch::Tensor wide = states.detach().to(torch::kFloat64).set_requires_grad(true),
                        each = each_of(wide, weight.to(torch::kFloat64), labels);
    ASSERT_TRUE(can_fuse_output_loss(weight));
    const torch::Tensor weights = torch::rand({tokens}) + 0.5;  // every token's loss has a gradient of its own
    const torch::Tensor expected = (each * weights).sum();
    const torch::Tensor loss = (output_losses(states, {weight, {}}, vocabulary, labels) * weights).sum();
    EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-6 * expected.item<double>());
    const torch::Tensor ours = torch::autograd::grad({3 * loss}, {states})[0],
                        theirs = torch::autograd::grad({3 * expected}, {wide})[0];
    EXPECT_LT((ours - theirs).abs().max().item<double>(), 3e-5 * theirs.abs().max().item<double>());
    const torch::NoGradGuard no_grad;
    EXPECT_LT((output_losses(states, {weight, {}}, vocabulary, labels) - each).abs().max().item<double>(),
              1e-6 * each.abs().max().item<double>());
  }
}

TEST(OutputLossTest, UnderAutocastTheOperandsAreRounded) {
  torch::manual_seed(2);
  const torch::Tensor states = torch::randn({70, 64}).set_requires_grad(true), weight = torch::randn({4096, 64});
  const torch::Tensor labels = torch::randint(4096, {70}, torch::kInt64);
  const auto rounded = [](const torch::Tensor& x) { return x.detach().to(torch::kBFloat16).to(torch::kFloat64); };
  const torch::Tensor wide = rounded(states).set_requires_grad(true),
                      expected = reference(wide, rounded(weight), labels);
  const torch::Tensor theirs = torch::autograd::grad({expected}, {wide})[0];
  const Autocast autocast(torch::kCPU, true);
  AutocastCopy copy;
  const torch::Tensor loss = output_losses(states, copy.of(weight), 4096, labels).sum();
  EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-5 * expected.item<double>());
  const torch::Tensor ours = torch::autograd::grad({loss}, {states})[0];
  EXPECT_LT((ours - theirs).abs().max().item<double>(), 1e-2 * theirs.abs().max().item<double>());
}

TEST(OutputLossTest, NothingToPredictIsZeroAndNotANumberIsNotHidden) {
  torch::Tensor states = torch::randn({0, 8}).set_requires_grad(true);
  const torch::Tensor weight = torch::randn({50, 8});
  const torch::Tensor none = output_losses(states, {weight, {}}, 50, torch::empty({0}, torch::kInt64)).sum();
  EXPECT_EQ(none.item<float>(), 0.0F);
  EXPECT_TRUE(none.requires_grad());
  states = torch::randn({3, 8});
  states[1][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(output_losses(states, {weight, {}}, 50, torch::zeros({3}, torch::kInt64)).sum().isnan().item<bool>());
}

TEST(OutputLossTest, TokensWithoutALabelTakeNoPart) {
  torch::manual_seed(4);
  const torch::Tensor states = torch::randn({5, 8}).set_requires_grad(true), weight = torch::randn({50, 8});
  const torch::Tensor labels = torch::tensor(std::vector<int64_t>{3, kIgnored, 49, kIgnored, 0}),
                      kept = torch::tensor({0, 2, 4});
  const torch::Tensor loss = output_losses(states, {weight, {}}, 50, labels).sum();
  const torch::Tensor alone = states.detach().index_select(0, kept).set_requires_grad(true);
  const torch::Tensor expected = reference(alone, weight, labels.index_select(0, kept));
  EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-6 * expected.item<double>());
  const torch::Tensor ours = torch::autograd::grad({loss}, {states})[0],
                      theirs = torch::autograd::grad({expected}, {alone})[0];
  EXPECT_LT((ours.index_select(0, kept) - theirs).abs().max().item<double>(), 1e-5);
  EXPECT_EQ(ours.index_select(0, torch::tensor({1, 3})).abs().max().item<float>(), 0.0F);
}

TEST(OutputLossTest, LabelsBeyondTheVocabularyAreSaid) {
  const torch::Tensor weight = torch::randn({50, 8});
  EXPECT_NE(testing::error_of([&] {
              output_losses(torch::randn({1, 8}), {weight, {}}, 50, torch::full({1}, 50, torch::kInt64));
            }).find("token 50 is beyond the model's vocabulary of 50"),
            std::string::npos);
}

}  // namespace
}  // namespace deeplora
