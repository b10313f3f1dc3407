// Oracle: the same products in float64.
#include "factorization/block_products.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "factorization/loops/loops.h"
#include "support/products.h"

namespace deeplora {
namespace {

/// Sizes around the blocks' edges, a layer, its narrow products and a depth of several blocks.
const std::vector<testing::ProductSizes> kSizes{{1, 2, 1}, {64, 64, 64}, {77, 66, 130}, {383, 384, 8}, {200, 8, 384}, {8, 342, 400}, {400, 342, 8}, {65, 1602, 96}};

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

INSTANTIATE_TEST_SUITE_P(Types, BlockProducts, ::testing::Values(torch::kFloat32, torch::kBFloat16),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

TEST(BlockProductsTest, WhatTheKernelsCannotTakeIsLeftAlone) {
  torch::Tensor y = torch::full({4, 4}, 7.0F), before = y.clone(), turned = y.t().narrow(0, 0, 2);
  const torch::Tensor odd = torch::ones({4, 3}, torch::kBFloat16), spread = torch::ones({8, 8}).slice(0, 0, 8, 2).slice(1, 0, 8, 2);
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
                                          reinterpret_cast<const uint32_t*>(x.const_data_ptr<int32_t>()), words, rows, words);
      EXPECT_TRUE(torch::equal(out.narrow(1, 0, rows), x.t())) << rows << " " << words;
      EXPECT_EQ(out.narrow(1, rows, 5).abs().max().item<int32_t>(), 0);
    }
}

}  // namespace
}  // namespace deeplora
