#include "factorization/initialization.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <stdexcept>

#include "core/error.h"
#include "core/random.h"
#include "factorization/spectral.h"
#include "tests/support/tensors.h"

namespace deeplora {
namespace {

using testing::close;
using testing::golden;
using testing::kolmogorov_distance;
using testing::tensor_from;

const auto kDouble = torch::TensorOptions().dtype(torch::kFloat64);

torch::Tensor identity(int64_t size) { return torch::eye(size, kDouble); }

torch::Tensor factor(const FactorChain& chain, const std::string& name) {
  for (const auto& candidate : chain->factors())
    if (candidate.name == name) return candidate.value.detach();
  throw std::out_of_range("no factor " + name);
}

// Two-sided Kolmogorov-Smirnov bound exceeded with probability 2 exp(-2 lambda^2) = 1e-6.
double critical(double count) { return 2.694 / std::sqrt(count); }

TEST(InitializationTest, SemiOrthogonalMatricesAreOrthonormalOnTheSmallerSide) {
  auto generator = make_generator(1, "init");
  for (const auto& [rows, cols] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {7, 1}, {1, 7}, {6, 6}, {40, 8}, {8, 40}, {101, 100}}) {
    const auto q = random_semi_orthogonal(rows, cols, generator, kDouble);
    ASSERT_EQ(q.sizes(), (at::IntArrayRef{rows, cols}));
    const auto gram = rows >= cols ? torch::matmul(q.t(), q) : torch::matmul(q, q.t());
    EXPECT_TRUE(close(gram, identity(std::min(rows, cols)), 1e-14)) << rows << "x" << cols;
    const auto single = random_semi_orthogonal(rows, cols, generator).to(torch::kFloat64);
    const auto rounded = rows >= cols ? torch::matmul(single.t(), single) : torch::matmul(single, single.t());
    EXPECT_TRUE(close(rounded, identity(std::min(rows, cols)), 1e-6));
  }
}

TEST(InitializationTest, OrthogonalMatricesAreHaarDistributed) {
  // Oracle: each coordinate of a uniform point on the sphere in three dimensions is uniform on [-1, 1]
  // (Archimedes). Without the sign fix of the QR factorisation the first one would always be negative.
  auto generator = make_generator(2, "init");
  std::vector<torch::Tensor> draws;
  for (int i = 0; i < 600; ++i) draws.push_back(random_semi_orthogonal(3, 3, generator, kDouble));
  const auto all = torch::stack(draws);
  for (int64_t i = 0; i < 3; ++i)
    for (int64_t j = 0; j < 3; ++j)
      EXPECT_LT(kolmogorov_distance(all.select(1, i).select(1, j), [](double x) { return (x + 1) / 2; }), critical(600))
          << i << j;
  EXPECT_NEAR(torch::linalg_det(all).mean().item<double>(), 0, 0.2);  // both orientations
}

TEST(InitializationTest, KaimingPairHasTheDistributionOfPeft) {
  const auto peft = golden("factor_peft.json").at("start");
  const int64_t in = peft.at("in"), out = peft.at("out"), rank = peft.at("rank");
  const auto chain = kaiming_zero_chain({out, in, rank, 2}, 2.0, make_generator(3, "init"), kDouble);
  const auto a = factor(chain, "A"), sample = tensor_from(peft.at("a_sorted"));
  const double bound = 1 / std::sqrt(static_cast<double>(in));
  const auto uniform = [&](double x) { return (x + bound) / (2 * bound); };
  ASSERT_EQ(a.sizes(), (at::IntArrayRef{rank, in}));
  EXPECT_LE(a.abs().max().item<double>(), bound);
  EXPECT_GT(a.abs().max().item<double>(), 0.98 * bound);
  const double allowed = peft.at("kolmogorov_critical_1e-6").get<double>();
  EXPECT_LT(kolmogorov_distance(a, uniform), allowed);
  // PEFT's own draw: same bounds, same distribution, and the two samples agree with each other.
  EXPECT_LE(sample.abs().max().item<double>(), bound * (1 + 1e-6));
  EXPECT_LT(kolmogorov_distance(sample, uniform), allowed);
  const auto empirical = [&](double x) { return (sample <= x).to(torch::kFloat64).mean().item<double>(); };
  EXPECT_LT(kolmogorov_distance(a, empirical), allowed * std::sqrt(2.0) + 1.0 / sample.numel());
  EXPECT_EQ(peft.at("b_largest").get<double>(), 0);
  EXPECT_EQ(factor(chain, "B").abs().max().item<double>(), 0);
  EXPECT_EQ(factor(chain, "B").sizes(), (at::IntArrayRef{out, rank}));
  EXPECT_EQ(chain->scale(), 2.0);
}

TEST(InitializationTest, GaussianPairIsZeroOnTheChosenSideAndNormalOnTheOther) {
  for (const auto side : {ZeroSide::output, ZeroSide::input}) {
    const auto chain = gaussian_zero_chain({60, 50, 10, 2}, side, 0.5, 1, make_generator(4, "init"), kDouble);
    const bool output = side == ZeroSide::output;
    EXPECT_EQ(factor(chain, output ? "B" : "A").abs().max().item<double>(), 0);
    const auto drawn = factor(chain, output ? "A" : "B");
    const auto normal = [](double x) { return std::erfc(-x / 0.5 / std::sqrt(2.0)) / 2; };
    EXPECT_LT(kolmogorov_distance(drawn, normal), critical(static_cast<double>(drawn.numel())));
  }
}

TEST(InitializationTest, OrthogonalChainStartsAtEpsToTheDepthInEveryDirection) {
  for (const int64_t depth : {2, 3, 5}) {
    for (const auto& [out, in, width] : std::vector<std::array<int64_t, 3>>{{12, 9, 4}, {9, 12, 9}, {7, 7, 7}}) {
      const auto chain = orthogonal_chain({out, in, width, depth}, 0.1, make_generator(5, "init"), kDouble);
      ASSERT_EQ(chain->depth(), depth);
      for (const auto& [name, value, rate, orthonormal] : chain->factors()) {
        const auto q = value.detach() / 0.1;
        const bool tall = q.size(0) >= q.size(1);
        const auto gram = tall ? torch::matmul(q.t(), q) : torch::matmul(q, q.t());
        EXPECT_TRUE(close(gram, identity(std::min(q.size(0), q.size(1))), 1e-14)) << name;
      }
      // Oracle: a product of matrices with orthonormal columns, then rows, has singular values eps^L only.
      const auto expected = torch::full({width}, std::pow(0.1, depth), kDouble);
      EXPECT_TRUE(close(torch::linalg_svdvals(chain->product().detach()).narrow(0, 0, width), expected, 1e-15));
    }
  }
  const auto wide = orthogonal_chain({4, 5, 9, 3}, 0.1, make_generator(5, "init"), kDouble);
  EXPECT_EQ(wide->width(), 9);
  EXPECT_EQ(orthogonal_chain({4, 5, 3, 3}, 0.1, make_generator(5, "init"), kDouble, 4)->scale(), 4);
}

TEST(InitializationTest, OneSeedStartsTheSameRunInEveryPrecision) {
  const auto pair = torch::linspace(-1, 1, 36, kDouble).reshape({12, 3}).pow(3) + torch::eye(12, 3, kDouble);
  const auto left = std::get<0>(torch::linalg_qr(pair)), right = left.narrow(0, 0, 12);
  const auto start = [&](int kind, torch::Dtype type) {
    auto generator = make_generator(6, "init");
    if (kind == 0) return kaiming_zero_chain({12, 12, 3, 2}, 1, generator, type);
    if (kind == 1) return gaussian_zero_chain({12, 12, 3, 2}, ZeroSide::output, 1, 1, generator, type);
    if (kind == 2) return orthogonal_chain({12, 12, 3, 3}, 1, generator, type);
    return compressed_chain(left.to(type), right.to(type), 3, 1, 0.01, generator);
  };
  for (int kind = 0; kind < 4; ++kind) {
    const auto exact = start(kind, torch::kFloat64), rounded = start(kind, torch::kFloat32),
               again = start(kind, torch::kFloat32);
    for (size_t i = 0; i < exact->factors().size(); ++i) {
      EXPECT_EQ(rounded->factors()[i].value.scalar_type(), torch::kFloat32);
      EXPECT_TRUE(close(rounded->factors()[i].value, exact->factors()[i].value, 1e-6))
          << kind << exact->factors()[i].name;
      EXPECT_TRUE(torch::equal(rounded->factors()[i].value, again->factors()[i].value));
    }
  }
}

struct CompressedCase {
  int64_t m, n, k;
};
const std::vector<CompressedCase> kCompressed = {{10, 10, 2}, {30, 12, 3}, {12, 30, 3}, {8, 8, 4},
                                                 {6, 9, 3},   {9, 6, 3},   {2, 2, 1},   {500, 64, 16}};

TEST(InitializationTest, CompressedChainIsOrthonormalAndKeepsTheGradientsDirections) {
  for (const auto& [m, n, k] : kCompressed) {
    auto generator = make_generator(7, "init");
    const auto left = random_semi_orthogonal(m, k, generator, kDouble),
               right = random_semi_orthogonal(n, k, generator, kDouble);
    const auto chain = compressed_chain(left, right, 3, 1e-2, 0.25, generator);
    const auto u = factor(chain, "U"), v = factor(chain, "V").t();
    ASSERT_EQ(u.sizes(), (at::IntArrayRef{m, 2 * k}));
    ASSERT_EQ(v.sizes(), (at::IntArrayRef{n, 2 * k}));
    EXPECT_TRUE(close(torch::matmul(u.t(), u), identity(2 * k), 1e-14));
    EXPECT_TRUE(close(torch::matmul(v.t(), v), identity(2 * k), 1e-14));
    EXPECT_TRUE(close(torch::matmul(u, torch::matmul(u.t(), left)), left, 1e-14)) << "left directions left the span";
    EXPECT_TRUE(close(torch::matmul(v, torch::matmul(v.t(), right)), right, 1e-14)) << "right directions left the span";
    for (const char* name : {"W1", "W2", "W3"}) EXPECT_TRUE(torch::equal(factor(chain, name), 1e-2 * identity(2 * k)));
    ASSERT_EQ(chain->depth(), 5);
    EXPECT_EQ(chain->factors().front().lr_scale, 0.25);
    EXPECT_EQ(chain->factors().back().lr_scale, 0.25);
    EXPECT_EQ(chain->factors()[2].lr_scale, 1);
    EXPECT_TRUE(close(chain->product(), 1e-6 * torch::matmul(u, v.t()), 1e-15));
  }
}

TEST(InitializationTest, CompressedChainSatisfiesTheGramConditionOfItsP) {
  // P = U V^T is the action of the lazily drawn matrix on the span. With A = P^T U_G, its image of C = [V_G,
  // A] is [Z_1, U_G] and must have C's Gram matrix; both identities define the construction (method paper,
  // section 2).
  for (const auto& [m, n, k] : kCompressed) {
    auto generator = make_generator(8, "init");
    const auto left = random_semi_orthogonal(m, k, generator, kDouble),
               right = random_semi_orthogonal(n, k, generator, kDouble);
    const auto chain = compressed_chain(left, right, 2, 1, 1, generator);
    const auto p = torch::matmul(factor(chain, "U"), factor(chain, "V"));
    const auto a = torch::matmul(p.t(), left);
    EXPECT_TRUE(close(torch::matmul(a.t(), a), identity(k), 1e-14));
    EXPECT_TRUE(close(torch::matmul(p, a), left, 1e-14));
    const auto c = torch::cat({right, a}, 1), image = torch::matmul(p, c);
    EXPECT_TRUE(close(torch::matmul(image.t(), image), torch::matmul(c.t(), c), 1e-14));
  }
}

TEST(InitializationTest, CompressedChainDrawsPFromTheHaarDistribution) {
  // Oracle: for m = n = 3 and k = 1, (P^T u) . v is a coordinate of a uniform point on the sphere: uniform on
  // [-1, 1]; (P v) . e for e orthogonal to u is another. For m != n the smaller side, 3, decides.
  for (const auto& [m, n] : std::vector<std::pair<int64_t, int64_t>>{{3, 3}, {3, 8}, {8, 3}}) {
    auto generator = make_generator(9, "init");
    const auto u = torch::eye(m, 1, kDouble), v = torch::eye(n, 1, kDouble);
    std::vector<double> overlaps;
    for (int i = 0; i < 600; ++i) {
      const auto chain = compressed_chain(u, v, 2, 1, 1, generator);
      overlaps.push_back(chain->product()[0][0].item<double>());
    }
    EXPECT_LT(kolmogorov_distance(torch::tensor(overlaps, kDouble), [](double x) { return (x + 1) / 2; }),
              critical(600))
        << m << "x" << n;
  }
}

TEST(InitializationTest, RefusesSizesThatDoNotFit) {
  auto generator = make_generator(10, "init");
  const auto q = [&](int64_t rows, int64_t cols) { return random_semi_orthogonal(rows, cols, generator, kDouble); };
  EXPECT_THROW(kaiming_zero_chain({4, 4, 2, 3}, 1, generator), std::invalid_argument);
  EXPECT_THROW(gaussian_zero_chain({4, 4, 0, 2}, ZeroSide::output, 1, 1, generator), std::invalid_argument);
  EXPECT_THROW(orthogonal_chain({4, 4, 2, 1}, 1, generator), std::invalid_argument);
  EXPECT_THROW(compressed_chain(q(5, 3), q(9, 3), 3, 1, 1, generator), std::invalid_argument);
  EXPECT_THROW(compressed_chain(q(9, 3), q(9, 2), 3, 1, 1, generator), std::invalid_argument);
}

}  // namespace
}  // namespace deeplora
