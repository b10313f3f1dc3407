#include "factorization/spectral.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <array>
#include <stdexcept>

#include "core/error.h"
#include "core/random.h"
#include "factorization/diagnostics.h"
#include "factorization/initialization.h"
#include "tests/support/tensors.h"

namespace deeplora {
namespace {

using testing::close;
const auto kDouble = torch::TensorOptions().dtype(torch::kFloat64);

torch::Tensor decaying(int64_t m, int64_t n, double ratio, at::Generator generator) {
  const int64_t k = std::min(m, n);
  const auto s = torch::pow(ratio, torch::arange(k, kDouble));
  return torch::matmul(random_semi_orthogonal(m, k, generator, kDouble) * s,
                       random_semi_orthogonal(k, n, generator, kDouble));
}

TEST(SpectralTest, LeadingPairsEqualTheFullDecomposition) {
  // Oracle: LAPACK's full SVD. The iteration's error in a value is about (s_{k+p+1} / s_k)^(4q+2): with ratio
  // 0.7, k = 6, p = 8 and q = 4, 0.7^(9 x 18) = 1e-25; the small cases take the exact path.
  auto generator = make_generator(1, "spectral");
  for (const auto& [m, n] :
       std::vector<std::pair<int64_t, int64_t>>{{200, 120}, {90, 300}, {64, 64}, {20, 31}, {5, 40}}) {
    const auto matrix = decaying(m, n, 0.7, generator);
    const int64_t k = std::min<int64_t>(6, std::min(m, n));
    const auto pairs = leading_singular_pairs(matrix, 6, generator);
    const auto [u, s, vt] = torch::linalg_svd(matrix, false);
    EXPECT_TRUE(close(pairs.s, s.narrow(0, 0, k), 1e-13));
    EXPECT_LT(subspace_distance(pairs.u, u.narrow(1, 0, k)), 1e-10);
    EXPECT_LT(subspace_distance(pairs.v, vt.narrow(0, 0, k).t()), 1e-10);
    EXPECT_TRUE(close(torch::matmul(matrix, pairs.v), pairs.u * pairs.s, 1e-10)) << "u and v are not partners";
    EXPECT_TRUE(close(torch::matmul(pairs.u.t(), pairs.u), torch::eye(k, kDouble), 1e-13));
    EXPECT_TRUE(close(torch::matmul(pairs.v.t(), pairs.v), torch::eye(k, kDouble), 1e-13));
  }
}

TEST(SpectralTest, LeadingValuesOfAFlatSpectrumAreNearlyOptimal) {
  // A Gaussian matrix has no gap at all: the captured energy, not the vectors, is what can be asked for.
  auto generator = make_generator(2, "spectral");
  const auto matrix = torch::randn({300, 200}, generator, kDouble);
  const auto pairs = leading_singular_pairs(matrix, 8, generator);
  const auto best = torch::linalg_svdvals(matrix).narrow(0, 0, 8).square().sum().item<double>();
  EXPECT_GT(torch::matmul(matrix, pairs.v).square().sum().item<double>(), 0.95 * best);
}

TEST(SpectralTest, SinglePrecisionKeepsItsAccuracyAndHalfIsComputedInIt) {
  auto generator = make_generator(3, "spectral");
  const auto matrix = decaying(200, 150, 0.6, generator);
  const auto single = leading_singular_pairs(matrix.to(torch::kFloat32), 5, generator);
  EXPECT_EQ(single.u.scalar_type(), torch::kFloat32);
  EXPECT_TRUE(close(single.s, torch::linalg_svdvals(matrix).narrow(0, 0, 5), 1e-5));
  EXPECT_EQ(leading_singular_pairs(matrix.to(torch::kBFloat16), 5, generator).v.scalar_type(), torch::kFloat32);
}

TEST(SpectralTest, PairsStayOrthonormalWhereTheMatrixHasLowerRank) {
  auto generator = make_generator(4, "spectral");
  const auto rank_two =
      torch::matmul(torch::randn({150, 2}, generator, kDouble), torch::randn({2, 120}, generator, kDouble));
  for (const auto& matrix : {rank_two, torch::zeros({150, 120}, kDouble), torch::zeros({6, 9}, kDouble)}) {
    const auto pairs = leading_singular_pairs(matrix, 4, generator);
    EXPECT_TRUE(close(torch::matmul(pairs.u.t(), pairs.u), torch::eye(4, kDouble), 1e-13));
    EXPECT_TRUE(close(torch::matmul(pairs.v.t(), pairs.v), torch::eye(4, kDouble), 1e-13));
  }
  EXPECT_EQ(leading_singular_pairs(rank_two.narrow(0, 0, 3), 50, generator).s.numel(), 3)
      << "k is cut to the smaller side";
  EXPECT_THROW(leading_singular_pairs(rank_two, 0, generator), std::invalid_argument);
  EXPECT_THROW(leading_singular_pairs(rank_two[0], 1, generator), std::invalid_argument);
}

TEST(SpectralTest, SingularValuesOfAChainEqualThoseOfItsProduct) {
  // Oracle: the full SVD of the dense product.
  auto generator = make_generator(5, "spectral");
  for (const auto& widths :
       std::vector<std::vector<int64_t>>{{9, 3, 7}, {9, 5, 2, 4, 7}, {6, 20, 5}, {5, 20, 9}, {4, 8}, {40, 6, 6, 50}}) {
    std::vector<Factor> factors;
    for (size_t i = 0; i + 1 < widths.size(); ++i)
      factors.push_back({cat("W", i), torch::randn({widths[i + 1], widths[i]}, generator, kDouble)});
    FactorChain chain(std::move(factors), -2.5);
    const auto values = singular_values(*chain), all = torch::linalg_svdvals(chain->product().detach());
    ASSERT_EQ(values.numel(), *std::min_element(widths.begin(), widths.end()));
    EXPECT_TRUE(close(values, all.narrow(0, 0, values.numel()), 1e-13)) << widths;
    EXPECT_LT(all.narrow(0, values.numel(), all.numel() - values.numel()).sum().item<double>(),
              1e-12 * all[0].item<double>());
  }
}

TEST(SpectralTest, SingularValuesOfADeepFloat32StartDoNotUnderflow) {
  const auto chain = orthogonal_chain({30, 20, 4, 9}, 1e-5, make_generator(6, "spectral"));
  const auto values = singular_values(*chain) / 1e-45;  // eps^L, far below float32's smallest number squared
  EXPECT_TRUE(close(values, torch::ones({4}, kDouble), 1e-5));
}

}  // namespace
}  // namespace deeplora
