#include "factorization/diagnostics.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <stdexcept>

#include "tests/support/tensors.h"

namespace deeplora {
namespace {

using testing::close;
using testing::golden;
using testing::tensor_from;
const auto kDouble = torch::TensorOptions().dtype(torch::kFloat64);

TEST(DiagnosticsTest, PrincipalAnglesEqualSciPy) {
  // Oracle: scipy.linalg.subspace_angles, spaces 1e-9 apart and dependent columns included.
  const auto file = golden("factor_subspaces.json");
  for (const auto& example : file.at("angles")) {
    const auto a = tensor_from(example.at("a")), b = tensor_from(example.at("b"));
    const auto expected = torch::tensor(example.at("angles").get<std::vector<double>>(), kDouble);
    EXPECT_TRUE(close(principal_angles(a, b), expected, 2e-14));
  }
}

TEST(DiagnosticsTest, SubspaceDistanceIsThatOfTheProjectors) {
  // Oracle: || P_a - P_b ||_F from dense projectors.
  const auto file = golden("factor_subspaces.json");
  for (const auto& example : file.at("angles")) {
    const auto a = tensor_from(example.at("a")), b = tensor_from(example.at("b"));
    const auto projector = [](const torch::Tensor& columns) {
      return torch::matmul(columns, torch::linalg_pinv(columns));
    };
    const auto pa = projector(a), pb = projector(b);
    const double smaller = std::round(std::min(pa.trace().item<double>(), pb.trace().item<double>()));
    EXPECT_NEAR(subspace_distance(a, b), (pa - pb).norm().item<double>() / std::sqrt(2 * smaller), 1e-13);
  }
  const auto axes = torch::eye(6, kDouble);
  EXPECT_EQ(subspace_distance(axes.narrow(1, 0, 2), -3 * axes.narrow(1, 0, 2)), 0);
  EXPECT_EQ(subspace_distance(axes.narrow(1, 0, 2), axes.narrow(1, 2, 2)), 1);
  EXPECT_EQ(subspace_distance(axes, torch::zeros({6, 2}, kDouble)), 1);
  EXPECT_THROW(subspace_distance(axes, torch::eye(5, kDouble)), std::invalid_argument);
}

TEST(DiagnosticsTest, RanksEqualNumPyAndSciPy) {
  // Oracles: numpy.linalg.matrix_rank and exp(scipy.stats.entropy) of the singular values.
  const auto file = golden("factor_subspaces.json");
  for (const auto& example : file.at("ranks")) {
    const auto matrix = tensor_from(example.at("matrix"));
    const auto values = torch::linalg_svdvals(matrix);
    EXPECT_EQ(numerical_rank(values, -1, std::max(matrix.size(0), matrix.size(1))), example.at("rank").get<int64_t>());
    EXPECT_EQ(numerical_rank(values, 1e-2), example.at("rank_1e-2").get<int64_t>());
    EXPECT_NEAR(effective_rank(values), example.at("effective_rank").get<double>(),
                1e-7);  // sqrt(eps): x log x near 0
  }
}

TEST(DiagnosticsTest, RankCountsValuesInAnyOrderAndPrecision) {
  const auto values = torch::tensor({1e-9, 1.0, 0.5});
  EXPECT_EQ(numerical_rank(values), 2);                      // float32: 3 x 1.2e-7
  EXPECT_EQ(numerical_rank(values.to(torch::kFloat64)), 3);  // float64: 3 x 2.2e-16
  EXPECT_EQ(numerical_rank(torch::zeros({4})), 0);
  EXPECT_EQ(numerical_rank(torch::empty({0})), 0);
  EXPECT_EQ(effective_rank(torch::empty({0})), 0);
  EXPECT_NEAR(effective_rank(torch::full({5}, 1e-9)), 5, 1e-12);
}

}  // namespace
}  // namespace deeplora
