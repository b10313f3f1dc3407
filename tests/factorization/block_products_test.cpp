// Oracle: the same products in float64.
#include "factorization/block_products.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>

#include "core/parallel.h"
#include "factorization/loops/loops.h"

namespace deeplora {
namespace {

torch::Tensor wide(const torch::Tensor& x) { return x.to(torch::kFloat64); }

double error(const torch::Tensor& found, const torch::Tensor& expected) { return ((wide(found) - expected).norm() / expected.norm()).item<double>(); }

struct Shape {
  int64_t rows, depth, columns;
};

/// Sizes around the blocks' edges, a layer, its narrow products and a depth of several blocks.
const std::vector<Shape> kShapes{{1, 2, 1}, {64, 64, 64}, {77, 66, 130}, {383, 384, 8}, {200, 8, 384}, {8, 342, 400}, {400, 342, 8}, {65, 1602, 96}};

bool serves(at::ScalarType type) {
  torch::Tensor y = torch::empty({2, 2});
  return block_product(y, torch::ones({2, 2}, type), torch::ones({2, 2}, type), 1, false);
}

torch::Tensor by_columns(const torch::Tensor& x) { return x.t().contiguous().t(); }
torch::Tensor part(const torch::Tensor& x) { return torch::cat({x, x, x}, 1).narrow(1, x.size(1), x.size(1)); }

class BlockProducts : public ::testing::TestWithParam<at::ScalarType> {};

TEST_P(BlockProducts, EveryLayoutSizeAndScaleGivesTheProduct) {
  if (!serves(GetParam())) GTEST_SKIP() << "this processor or LibTorch has no kernels for them";
  torch::manual_seed(1);
  for (const auto& [rows, depth, columns] : kShapes) {
    const torch::Tensor a = torch::randn({rows, depth}).to(GetParam()), b = torch::randn({depth, columns}).to(GetParam());
    const torch::Tensor expected = wide(a).matmul(wide(b));
    for (const auto& left : {a, by_columns(a), part(a)})
      for (const auto& right : {b, by_columns(b), part(b)}) {
        torch::Tensor y = torch::full({rows, columns + 3}, std::nanf("")).narrow(1, 1, columns);
        ASSERT_TRUE(block_product(y, left, right, 1, false));
        EXPECT_LT(error(y, expected), 1e-6) << rows << " " << depth << " " << columns;
        torch::Tensor sum = torch::ones({rows, columns});
        ASSERT_TRUE(block_product(sum, left, right, 0.5, true));
        EXPECT_LT(error(sum, 1 + 0.5 * expected), 1e-6) << rows << " " << depth << " " << columns;
      }
  }
}

TEST_P(BlockProducts, AnyNumberOfThreadsGivesTheSameBits) {
  if (!serves(GetParam())) GTEST_SKIP() << "this processor or LibTorch has no kernels for them";
  const int64_t before = parallel_threads();
  torch::manual_seed(2);
  for (const auto& [rows, depth, columns] : kShapes) {
    const torch::Tensor a = torch::randn({rows, depth}).to(GetParam()), b = torch::randn({columns, depth}).to(GetParam()).t();
    torch::Tensor alone = torch::empty({rows, columns}), together = torch::empty({rows, columns});
    use_threads(1);
    block_product(alone, a, b, 1, false);
    use_threads(3);
    block_product(together, a, b, 1, false);
    EXPECT_TRUE(torch::equal(alone, together)) << rows << " " << depth << " " << columns;
  }
  use_threads(before);
}

TEST_P(BlockProducts, WhatIsNotANumberStaysSo) {
  if (!serves(GetParam())) GTEST_SKIP() << "this processor or LibTorch has no kernels for them";
  torch::Tensor a = torch::ones({70, 70}).to(GetParam());
  a[69][3] = std::numeric_limits<float>::quiet_NaN();
  torch::Tensor y = torch::empty({70, 65});
  block_product(y, a, torch::ones({70, 65}).to(GetParam()), 1, false);
  EXPECT_TRUE(y[69].isnan().all().item<bool>());
  EXPECT_TRUE(torch::equal(y.narrow(0, 0, 69), torch::full({69, 65}, 70.0F)));
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
