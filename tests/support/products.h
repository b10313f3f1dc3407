// What every way to multiply y = scale a b owes: the product in every layout, the same bits for any number of threads,
// NaN where it comes from.
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>
#include <vector>

#include "core/parallel.h"

namespace deeplora::testing {

struct ProductSizes {
  int64_t rows, depth, columns;
};

inline double relative_error(const torch::Tensor& found, const torch::Tensor& expected) {
  return ((found.to(torch::kFloat64) - expected).norm() / expected.norm()).item<double>();
}

/// Oracle: the product in float64. product(y, a, b, scale, add) as block_product() and narrow_product().
template <class Product>
void expect_products(const Product& product, const std::vector<ProductSizes>& sizes, at::ScalarType type,
                     double allowed) {
  const auto by_columns = [](const torch::Tensor& x) { return x.t().contiguous().t(); };
  const auto part = [](const torch::Tensor& x) { return torch::cat({x, x, x}, 1).narrow(1, x.size(1), x.size(1)); };
  torch::manual_seed(1);
  for (const auto& [rows, depth, columns] : sizes) {
    const torch::Tensor a = torch::randn({rows, depth}).to(type), b = torch::randn({depth, columns}).to(type);
    const torch::Tensor expected = a.to(torch::kFloat64).matmul(b.to(torch::kFloat64));
    for (const auto& left : {a, by_columns(a), part(a)})
      for (const auto& right : {b, by_columns(b), part(b)}) {
        torch::Tensor around = torch::full({rows, columns + 3}, -7.0F),
                      y = around.narrow(1, 1, columns).fill_(std::nanf(""));
        ASSERT_TRUE(product(y, left, right, 1, false));
        EXPECT_LT(relative_error(y, expected), allowed) << rows << " " << depth << " " << columns;
        EXPECT_TRUE((around.select(1, 0) == -7).all().template item<bool>() &&
                    (around.narrow(1, columns + 1, 2) == -7).all().template item<bool>());
        torch::Tensor sum = torch::ones({rows, columns});
        ASSERT_TRUE(product(sum, left, right, 0.5, true));
        EXPECT_LT(relative_error(sum, 1 + 0.5 * expected), allowed) << rows << " " << depth << " " << columns;
      }
  }
}

template <class Product>
void expect_same_bits_for_any_threads(const Product& product, const std::vector<ProductSizes>& sizes,
                                      at::ScalarType type) {
  const int64_t before = parallel_threads();
  torch::manual_seed(2);
  for (const auto& [rows, depth, columns] : sizes)
    for (const bool add : {false, true}) {
      const torch::Tensor a = torch::randn({rows, depth}).to(type), b = torch::randn({columns, depth}).to(type).t(),
                          start = torch::randn({rows, columns});
      torch::Tensor alone = start.clone(), together = start.clone();
      use_threads(1);
      product(alone, a, b, 1, add);
      use_threads(3);
      product(together, a, b, 1, add);
      EXPECT_TRUE(torch::equal(alone, together)) << rows << " " << depth << " " << columns;
    }
  use_threads(before);
}

template <class Product>
void expect_not_a_number_stays(const Product& product, at::ScalarType type, int64_t columns) {
  torch::Tensor a = torch::ones({70, 70}).to(type);
  a[69][3] = std::numeric_limits<float>::quiet_NaN();
  torch::Tensor y = torch::empty({70, columns});
  ASSERT_TRUE(product(y, a, torch::ones({70, columns}).to(type), 1, false));
  EXPECT_TRUE(y[69].isnan().all().template item<bool>());
  EXPECT_TRUE(torch::equal(y.narrow(0, 0, 69), torch::full({69, columns}, 70.0F)));
}

}  // namespace deeplora::testing
