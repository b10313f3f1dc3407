// Oracle: the same products in float64.
#include "factorization/narrow_products.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>

#include "core/parallel.h"
#include "factorization/loops/loops.h"

namespace deeplora {
namespace {

torch::Tensor by_columns(const torch::Tensor& x) { return x.t().contiguous().t(); }
torch::Tensor part(const torch::Tensor& x) { return torch::cat({x, x, x}, 1).narrow(1, x.size(1), x.size(1)); }

struct Shape {
  int64_t rows, depth, columns;
};

/// A factor's products at ranks that fill registers, half of them and none, sizes around the tiles' edges, and a sum too long for one float32.
const std::vector<Shape> kShapes{{383, 384, 8}, {200, 8, 384}, {8, 342, 400}, {400, 342, 8}, {77, 66, 24}, {33, 3, 50}, {14, 5, 7}, {1, 2, 1}, {97, 40, 33}, {9, 100'000, 8}};

double error(const torch::Tensor& found, const torch::Tensor& expected) {
  return ((found.to(torch::kFloat64) - expected).norm() / expected.norm()).item<double>();
}

TEST(NarrowProductsTest, EveryLayoutSizeAndScaleGivesTheProduct) {
  torch::manual_seed(1);
  for (const auto& [rows, depth, columns] : kShapes) {
    const torch::Tensor a = torch::randn({rows, depth}), b = torch::randn({depth, columns});
    const torch::Tensor expected = a.to(torch::kFloat64).matmul(b.to(torch::kFloat64));
    const double allowed = depth > 1000 ? 3e-6 : 1e-6;  // one long sum is further off
    for (const auto& left : {a, by_columns(a), part(a)})
      for (const auto& right : {b, by_columns(b), part(b)}) {
        torch::Tensor around = torch::full({rows, columns + 3}, -7.0F), y = around.narrow(1, 1, columns);
        ASSERT_TRUE(narrow_product(y, left, right, 1, false));
        EXPECT_LT(error(y, expected), allowed) << rows << " " << depth << " " << columns;
        EXPECT_TRUE((around.select(1, 0) == -7).all().item<bool>() && (around.narrow(1, columns + 1, 2) == -7).all().item<bool>());
        torch::Tensor sum = torch::ones({rows, columns});
        ASSERT_TRUE(narrow_product(sum, left, right, 0.5, true));
        EXPECT_LT(error(sum, 1 + 0.5 * expected), allowed) << rows << " " << depth << " " << columns;
      }
  }
}

TEST(NarrowProductsTest, AnyNumberOfThreadsGivesTheSameBits) {
  const int64_t before = parallel_threads();
  torch::manual_seed(2);
  for (const auto& [rows, depth, columns] : kShapes)
    for (const bool add : {false, true}) {
      const torch::Tensor a = torch::randn({rows, depth}), b = torch::randn({columns, depth}).t(), start = torch::randn({rows, columns});
      torch::Tensor alone = start.clone(), together = start.clone();
      use_threads(1);
      narrow_product(alone, a, b, 1, add);
      use_threads(3);
      narrow_product(together, a, b, 1, add);
      EXPECT_TRUE(torch::equal(alone, together)) << rows << " " << depth << " " << columns;
    }
  use_threads(before);
}

TEST(NarrowProductsTest, EveryInstructionSetGivesTheProduct) {
  torch::manual_seed(3);
  std::vector<const elementwise_loops::Table*> tables{&elementwise_loops::portable::table(), &elementwise_loops::best()};
  for (const auto& [rows, depth, columns] : kShapes) {
    if (depth > 1000) continue;  // long sums are cut by narrow_product()
    const torch::Tensor a = torch::randn({rows, depth}), b = torch::randn({depth, columns});
    for (const auto* table : tables) {
      torch::Tensor y = torch::empty({rows, columns});
      table->product({rows, columns, depth, y.mutable_data_ptr<float>(), columns, a.const_data_ptr<float>(), depth, 1, b.const_data_ptr<float>(), columns, false});
      EXPECT_LT(error(y, a.to(torch::kFloat64).matmul(b.to(torch::kFloat64))), 1e-6) << rows << " " << depth << " " << columns;
    }
  }
}

TEST(NarrowProductsTest, WhatIsNotANumberStaysSoAndOnlyThere) {
  torch::Tensor a = torch::ones({70, 70});
  a[69][3] = std::numeric_limits<float>::quiet_NaN();
  torch::Tensor y = torch::empty({70, 9});
  ASSERT_TRUE(narrow_product(y, a, torch::ones({70, 9}), 1, false));
  EXPECT_TRUE(y[69].isnan().all().item<bool>());
  EXPECT_TRUE(torch::equal(y.narrow(0, 0, 69), torch::full({69, 9}, 70.0F)));
}

TEST(NarrowProductsTest, WhatTheLoopsCannotTakeIsLeftAlone) {
  torch::Tensor y = torch::full({4, 4}, 7.0F), before = y.clone(), turned = y.t().narrow(0, 0, 2);
  const torch::Tensor spread = torch::ones({8, 8}).slice(0, 0, 8, 2).slice(1, 0, 8, 2), half = torch::ones({4, 4}, torch::kBFloat16);
  EXPECT_FALSE(narrow_product(y, spread, torch::ones({4, 4}), 1, false));
  EXPECT_FALSE(narrow_product(y, half, half, 1, false));
  EXPECT_FALSE(narrow_product(y, torch::ones({4, 4}, torch::kFloat64), torch::ones({4, 4}, torch::kFloat64), 1, false));
  EXPECT_FALSE(narrow_product(turned, torch::ones({2, 4}), torch::ones({4, 4}), 1, false));
  EXPECT_TRUE(torch::equal(y, before));
}

}  // namespace
}  // namespace deeplora
