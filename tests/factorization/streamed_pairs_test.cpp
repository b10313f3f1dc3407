// Leading pairs of a streamed sum. Oracle: torch.linalg.svd of the sum in float64.
#include "factorization/streamed_pairs.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "core/random.h"
#include "factorization/diagnostics.h"
#include "factorization/initialization.h"
#include "factorization/stiefel.h"
#include "tests/support/tensors.h"

namespace deeplora {
namespace {

using testing::close;
const auto kDouble = torch::TensorOptions().dtype(torch::kFloat64);

MatrixAction action_of(const torch::Tensor& matrix) {
  return {matrix.size(0), matrix.size(1), matrix.options(),
          [matrix](const torch::Tensor& right) { return torch::matmul(matrix, right); },
          [matrix](const torch::Tensor& left) { return torch::matmul(matrix.t(), left); }};
}

struct Streamed {
  SingularPairs pairs;
  int passes = 0;
};

Streamed stream(const std::vector<torch::Tensor>& terms, int64_t k) {
  StreamedPairs sum(terms[0].size(0), terms[0].size(1), k, terms[0].options(), make_generator(1, "pairs"));
  Streamed out;
  do {
    for (const auto& term : terms) sum.add(action_of(term));
    ++out.passes;
  } while (sum.end_pass());
  out.pairs = sum.pairs();
  return out;
}

/// `count` matrices [m, n] whose sum has singular values decay^0, decay^1, ... : parts of the sum and noise that
/// cancels.
std::vector<torch::Tensor> terms_of(int64_t m, int64_t n, int count, double decay) {
  auto generator = make_generator(2, "terms");
  const int64_t smaller = std::min(m, n);
  const auto u = random_semi_orthogonal(m, smaller, generator, kDouble),
             v = random_semi_orthogonal(n, smaller, generator, kDouble);
  const auto s = torch::pow(decay, torch::arange(smaller, kDouble));
  std::vector<torch::Tensor> out;
  torch::Tensor rest = torch::matmul(u * s, v.t());
  for (int i = 1; i < count; ++i) {
    out.push_back(0.1 *
                  torch::matmul(torch::randn({m, 5}, generator, kDouble), torch::randn({5, n}, generator, kDouble)) /
                  std::sqrt(m * n));
    rest = rest - out.back();
  }
  out.push_back(rest);
  return out;
}

/// Angle in radians between the true and the found leading k right (left) vectors, whichever is larger.
double angle_to_truth(const std::vector<torch::Tensor>& terms, const SingularPairs& found) {
  const auto sum = torch::stack(terms).sum(0);
  const auto [u, s, vt] = torch::linalg_svd(sum, false);
  const int64_t k = found.s.size(0);
  return std::max(principal_angles(u.narrow(1, 0, k), found.u).max().item<double>(),
                  principal_angles(vt.narrow(0, 0, k).t(), found.v).max().item<double>());
}

TEST(StreamedPairsTest, OneTermTakesOnePassAndConverges) {
  for (const auto& [m, n] : {std::pair<int64_t, int64_t>{120, 90}, {90, 120}, {100, 100}}) {
    const auto terms = terms_of(m, n, 1, 0.7);
    const auto found = stream(terms, 4);
    EXPECT_EQ(found.passes, 1);
    EXPECT_LT(angle_to_truth(terms, found.pairs), 1e-9);
    EXPECT_TRUE(close(found.pairs.s, torch::pow(0.7, torch::arange(4, kDouble)), 1e-10));
  }
}

TEST(StreamedPairsTest, SeveralTermsConvergeTooAlsoForSlowDecay) {
  // The gap at k is what decides: 0.7 is a weight gradient's usual decay, 0.95 is almost flat.
  for (const auto& [decay, tolerance] : {std::pair{0.7, 1e-3}, {0.95, 2e-2}}) {
    const auto terms = terms_of(120, 90, 6, decay);
    const auto found = stream(terms, 8);
    EXPECT_EQ(found.passes, 3);
    EXPECT_LT(angle_to_truth(terms, found.pairs), tolerance) << decay;
    // What counts for a start is how much of the matrix the subspace holds: at most 1 % less than the best one.
    const auto sum = torch::stack(terms).sum(0);
    const double best = torch::linalg_svdvals(sum).narrow(0, 0, 8).square().sum().item<double>();
    EXPECT_GT(torch::matmul(found.pairs.u.t(), sum).square().sum().item<double>(), 0.99 * best) << decay;
    EXPECT_TRUE(close(torch::matmul(found.pairs.u.t(), found.pairs.u), torch::eye(8, kDouble), 1e-12));
    EXPECT_TRUE(close(torch::matmul(found.pairs.v.t(), found.pairs.v), torch::eye(8, kDouble), 1e-12));
  }
}

TEST(StreamedPairsTest, SmallMatricesAreExactInOnePass) {
  const auto terms = terms_of(40, 12, 4, 0.9);
  const auto found = stream(terms, 6);
  EXPECT_EQ(found.passes, 1);
  EXPECT_LT(angle_to_truth(terms, found.pairs), 1e-12);
  EXPECT_EQ(stream(terms, 50).pairs.s.size(0), 12) << "more pairs than the smaller side";
}

TEST(StreamedPairsTest, ASumOfZeroHasOrthonormalVectorsStill) {
  const auto a = torch::randn({60, 50}, make_generator(3, "a"), kDouble);
  const auto found = stream({a, -a}, 4);
  EXPECT_LT(found.pairs.s.max().item<double>(), 1e-10);
  EXPECT_TRUE(close(torch::matmul(found.pairs.u.t(), found.pairs.u), torch::eye(4, kDouble), 1e-12));
  EXPECT_TRUE(close(torch::matmul(found.pairs.v.t(), found.pairs.v), torch::eye(4, kDouble), 1e-12));
}

TEST(StiefelTest, PolarFactorIsTheOneOfTheSingularValueDecomposition) {
  for (const auto& [m, n] : {std::pair<int64_t, int64_t>{9, 4}, {4, 9}, {5, 5}}) {
    const auto matrix = torch::randn({m, n}, make_generator(4, "polar"), kDouble);
    const auto [u, s, vt] = torch::linalg_svd(matrix, false);
    EXPECT_TRUE(close(polar_factor(matrix), torch::matmul(u, vt), 1e-12));
  }
}

TEST(StiefelTest, TangentPartKeepsOrthonormalityToFirstOrderAndIsAProjection) {
  for (const auto& [m, n] : {std::pair<int64_t, int64_t>{9, 4}, {4, 9}}) {
    const auto x = random_semi_orthogonal(m, n, make_generator(5, "x"), kDouble);
    const auto g = torch::randn({m, n}, make_generator(6, "g"), kDouble), e = tangent_part(x, g);
    const auto gram = [&](const torch::Tensor& a, const torch::Tensor& b) {
      return m >= n ? torch::matmul(a.t(), b) : torch::matmul(a, b.t());
    };
    EXPECT_LT((gram(x, e) + gram(e, x)).abs().max().item<double>(), 1e-13);
    EXPECT_TRUE(close(tangent_part(x, e), e, 1e-13));
    EXPECT_GT((g - e).norm().item<double>(), 0.1);
  }
}

}  // namespace
}  // namespace deeplora
