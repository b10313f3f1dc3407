// Oracle: the same products in float64.
#include "factorization/block_products.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "core/random.h"
#include "factorization/block_kernels.h"
#include "factorization/loops/loops.h"
#include "factorization/weight_panels.h"
#include "support/products.h"

namespace deeplora {
namespace {

/// Sizes around the blocks' edges, a layer, its narrow products and a depth of several blocks.
const std::vector<testing::ProductSizes> kSizes{{1, 2, 1},     {64, 64, 64},  {77, 66, 130}, {383, 384, 8},
                                                {200, 8, 384}, {8, 342, 400}, {400, 342, 8}, {65, 1602, 96}};

bool serves(at::ScalarType type) {
  torch::Tensor y = torch::empty({2, 2});
  return block_product(y, torch::ones({2, 2}, type), torch::ones({2, 2}, type), 1, false);
}

class BlockProducts : public ::testing::TestWithParam<at::ScalarType> {};

TEST_P(BlockProducts, EveryLayoutSizeAndScaleGivesTheProduct) {
  if (!serves(GetParam())) GTEST_SKIP() << "this processor or LibTorch has no kernels for them";
  testing::expect_products(block_product, kSizes, GetParam(), 1e-6);
}

TEST_P(BlockProducts, AnyNumberOfThreadsGivesTheSameBits) {
  if (!serves(GetParam())) GTEST_SKIP() << "this processor or LibTorch has no kernels for them";
  testing::expect_same_bits_for_any_threads(block_product, kSizes, GetParam());
}

TEST_P(BlockProducts, WhatIsNotANumberStaysSo) {
  if (!serves(GetParam())) GTEST_SKIP() << "this processor or LibTorch has no kernels for them";
  testing::expect_not_a_number_stays(block_product, GetParam(), 65);
}

/// The products of one adapted layer of n = 96 inputs and m = 80 outputs on its way forth and back.
void train_layer(at::ScalarType type, int64_t tokens, int64_t rank) {
  const auto made = [&](int64_t rows, int64_t columns) { return torch::ones({rows, columns}, type); };
  const torch::Tensor x = made(tokens, 96), g = made(tokens, 80), h = made(tokens, rank), a = made(rank, 96),
                      b = made(80, rank), w = made(80, 96);
  const std::vector<std::pair<torch::Tensor, torch::Tensor>> products{{x, w.t()}, {x, a.t()}, {h, b.t()}, {g.t(), h},
                                                                      {g, b},     {h.t(), x}, {g, w},     {g.t(), x}};
  for (const auto& [left, right] : products)
    for (const bool add : {false, true}) {
      torch::Tensor y = torch::zeros({left.size(0), right.size(1)});
      const bool served = block_product(y, left, right, 1, add);
      EXPECT_EQ(served, type == torch::kFloat32 || left.size(1) % 2 == 0);
      EXPECT_TRUE(!served || (y == left.size(1)).all().item<bool>()) << tokens << " " << rank;
    }
}

TEST_P(BlockProducts, AnyNumberOfTokensNeedsTheSameFewKernels) {
  if (!serves(GetParam())) GTEST_SKIP() << "this processor or LibTorch has no kernels for them";
  const BlockShapesMet met;
  const int64_t step = GetParam() == torch::kBFloat16 ? 2 : 1;
  for (int64_t tokens = step; tokens <= 600; tokens += step)
    for (const int64_t rank : {1, 31}) train_layer(GetParam(), tokens, rank);
  // Every depth begins a sum or goes on with one, so depths beyond 768 bring the second half of them; then there are
  // none left.
  for (int64_t tokens = 600; tokens <= 1536; tokens += 5 * step)
    for (const int64_t rank : {1, 31}) train_layer(GetParam(), tokens, rank);
  const size_t known = met.shapes().size();
  EXPECT_LT(known, 1500U);  // with strides as long as the depth there would be tens of thousands
  auto generator = make_generator(4, "tokens");
  for (int i = 0; i < 20; ++i) {
    const int64_t tokens = torch::randint(800, 3000, {}, generator).item<int64_t>() * 2;
    for (const int64_t rank : {1, 31}) train_layer(GetParam(), tokens, rank);
  }
  EXPECT_LE(met.shapes().size(), known + known / 50);
}

TEST(WeightPanelsTest, AnyNumberOfTokensNeedsTheSameFewKernels) {
  const WeightPanels panels = WeightPanels::of(torch::ones({64, 96}));
  if (!panels.defined()) GTEST_SKIP() << "this processor or LibTorch has no products of bfloat16";
  const BlockShapesMet met;
  for (int64_t tokens = 1; tokens <= 600; ++tokens) {
    const torch::Tensor y =
        panel_product(torch::ones({tokens, 96}, torch::kBFloat16), panels.forward, torch::ones({64}));
    EXPECT_TRUE((y == 97).all().item<bool>()) << tokens;
  }
  EXPECT_EQ(met.shapes().size(), 6U);  // 32, 16, ..., 1 rows
}

INSTANTIATE_TEST_SUITE_P(Types, BlockProducts, ::testing::Values(torch::kFloat32, torch::kBFloat16),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

TEST(BlockProductsTest, WhatTheKernelsCannotTakeIsLeftAlone) {
  torch::Tensor y = torch::full({4, 4}, 7.0F), before = y.clone(), turned = y.t().narrow(0, 0, 2);
  const torch::Tensor odd = torch::ones({4, 3}, torch::kBFloat16),
                      spread = torch::ones({8, 8}).slice(0, 0, 8, 2).slice(1, 0, 8, 2);
  EXPECT_FALSE(block_product(y, odd, odd.t(), 1, false));
  EXPECT_FALSE(block_product(y, spread, torch::ones({4, 4}), 1, false));
  EXPECT_FALSE(block_product(y, torch::ones({4, 4}, torch::kFloat64), torch::ones({4, 4}, torch::kFloat64), 1, false));
  EXPECT_FALSE(block_product(turned, torch::ones({2, 4}), torch::ones({4, 4}), 1, false));
  EXPECT_TRUE(torch::equal(y, before));
}

TEST(TransposeTest, EveryInstructionSetTurnsEverySize) {
  torch::manual_seed(3);
  for (const int64_t rows : {1, 15, 16, 37, 64})
    for (const int64_t words : {1, 16, 33, 100}) {
      const torch::Tensor x = torch::randint(0, 1 << 30, {rows, words}, torch::kInt32);
      torch::Tensor out = torch::zeros({words, rows + 5}, torch::kInt32);
      elementwise_loops::best().transpose(reinterpret_cast<uint32_t*>(out.mutable_data_ptr<int32_t>()), rows + 5,
                                          reinterpret_cast<const uint32_t*>(x.const_data_ptr<int32_t>()), words, rows,
                                          words);
      EXPECT_TRUE(torch::equal(out.narrow(1, 0, rows), x.t())) << rows << " " << words;
      EXPECT_EQ(out.narrow(1, rows, 5).abs().max().item<int32_t>(), 0);
    }
}

}  // namespace
}  // namespace deeplora
