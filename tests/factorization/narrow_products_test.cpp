// Oracle: the same products in float64.
#include "factorization/narrow_products.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "factorization/loops/loops.h"
#include "support/products.h"

namespace deeplora {
namespace {

/// A factor's products at ranks that fill registers, half of them and none, and sizes around the tiles' edges.
const std::vector<testing::ProductSizes> kSizes{{383, 384, 8}, {200, 8, 384}, {8, 342, 400},
                                                {400, 342, 8}, {77, 66, 24},  {33, 3, 50},
                                                {14, 5, 7},    {1, 2, 1},     {97, 40, 33}};
/// A sum too long for one float32: that would be further off.
const std::vector<testing::ProductSizes> kLong{{9, 100'000, 8}};

TEST(NarrowProductsTest, EveryLayoutSizeAndScaleGivesTheProduct) {
  testing::expect_products(narrow_product, kSizes, torch::kFloat32, 1e-6);
  testing::expect_products(narrow_product, kLong, torch::kFloat32, 3e-6);
}

TEST(NarrowProductsTest, AnyNumberOfThreadsGivesTheSameBits) {
  testing::expect_same_bits_for_any_threads(narrow_product, kSizes, torch::kFloat32);
  testing::expect_same_bits_for_any_threads(narrow_product, kLong, torch::kFloat32);
}

TEST(NarrowProductsTest, EveryInstructionSetGivesTheProduct) {
  torch::manual_seed(3);
  std::vector<const elementwise_loops::Table*> tables{&elementwise_loops::portable::table(),
                                                      &elementwise_loops::best()};
  for (const auto& [rows, depth, columns] : kSizes) {
    const torch::Tensor a = torch::randn({rows, depth}), b = torch::randn({depth, columns});
    for (const auto* table : tables) {
      torch::Tensor y = torch::empty({rows, columns});
      table->product({rows, columns, depth, y.mutable_data_ptr<float>(), columns, a.const_data_ptr<float>(), depth, 1,
                      b.const_data_ptr<float>(), columns, false});
      EXPECT_LT(testing::relative_error(y, a.to(torch::kFloat64).matmul(b.to(torch::kFloat64))), 1e-6)
          << rows << " " << depth << " " << columns;
    }
  }
}

TEST(NarrowProductsTest, WhatIsNotANumberStaysSoAndOnlyThere) {
  testing::expect_not_a_number_stays(narrow_product, torch::kFloat32, 9);
}

TEST(NarrowProductsTest, WhatTheLoopsCannotTakeIsLeftAlone) {
  torch::Tensor y = torch::full({4, 4}, 7.0F), before = y.clone(), turned = y.t().narrow(0, 0, 2);
  const torch::Tensor spread = torch::ones({8, 8}).slice(0, 0, 8, 2).slice(1, 0, 8, 2),
                      half = torch::ones({4, 4}, torch::kBFloat16);
  EXPECT_FALSE(narrow_product(y, spread, torch::ones({4, 4}), 1, false));
  EXPECT_FALSE(narrow_product(y, half, half, 1, false));
  EXPECT_FALSE(narrow_product(y, torch::ones({4, 4}, torch::kFloat64), torch::ones({4, 4}, torch::kFloat64), 1, false));
  EXPECT_FALSE(narrow_product(turned, torch::ones({2, 4}), torch::ones({4, 4}), 1, false));
  EXPECT_TRUE(torch::equal(y, before));
}

}  // namespace
}  // namespace deeplora
