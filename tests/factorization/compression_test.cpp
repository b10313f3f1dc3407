// Section 2's claim, end to end: the compressed chain is the authors' compression of a full-width chain, and
// follows it.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <array>
#include <cmath>

#include "core/error.h"
#include "core/random.h"
#include "factorization/diagnostics.h"
#include "factorization/initialization.h"
#include "factorization/spectral.h"
#include "tests/support/tensors.h"

namespace deeplora {
namespace {

using testing::close;

constexpr double kEps = 0.05;
constexpr int64_t kRank = 2;
const auto kDouble = torch::TensorOptions().dtype(torch::kFloat64);

struct Sizes {
  int64_t m, n, depth;
};
const std::vector<Sizes> kSizes = {{40, 40, 3}, {50, 30, 3}, {30, 50, 3}, {24, 36, 4}, {20, 20, 2}};

// 0.5 || W - M ||_F^2 with a target of rank kRank and singular values 1 and 0.7, compressed at its gradient
// -M in W = 0.
struct Problem {
  explicit Problem(const Sizes& sizes) : generator(make_generator(1, "problem")) {
    const auto u = random_semi_orthogonal(sizes.m, kRank, generator, kDouble);
    const auto v = random_semi_orthogonal(sizes.n, kRank, generator, kDouble);
    target = torch::matmul(u * torch::tensor({1.0, 0.7}, kDouble), v.t());
    const auto pairs = leading_singular_pairs(-target, kRank, generator);
    compressed = compressed_chain(pairs.u, pairs.v, sizes.depth, kEps, /*outer_lr_scale=*/0, generator);
  }
  torch::Tensor loss(const FactorChain& chain) const { return 0.5 * (chain->product() - target).square().sum(); }

  at::Generator generator;
  torch::Tensor target;
  FactorChain compressed{nullptr};
};

torch::Tensor value(const FactorChain& chain, const std::string& name) {
  return chain->named_parameters()[name].detach();
}

// A semi-orthogonal P that acts on the span as the compressed chain drew it, and at random elsewhere.
torch::Tensor full_p(Problem& problem) {
  const auto u = value(problem.compressed, "U"), v = value(problem.compressed, "V").t();
  const int64_t rest = std::min(u.size(0), v.size(0)) - u.size(1);
  const auto complement = [&](const torch::Tensor& basis) {
    const auto draw = torch::randn({basis.size(0), rest}, problem.generator, kDouble);
    return std::get<0>(torch::linalg_qr(draw - torch::matmul(basis, torch::matmul(basis.t(), draw))));
  };
  return torch::matmul(u, v.t()) + torch::matmul(complement(u), complement(v).t());
}

// eps Q_L, ..., eps Q_1 with Q_L ... Q_1 = P and inner width min(m, n): the smaller side keeps square
// factors.
FactorChain full_width_chain(const torch::Tensor& p, int64_t depth, at::Generator generator) {
  const int64_t m = p.size(0), n = p.size(1), width = std::min(m, n);
  std::vector<torch::Tensor> q;
  torch::Tensor others = torch::eye(width, kDouble);
  for (int64_t i = 1; i < depth; ++i) {
    q.push_back(random_semi_orthogonal(width, width, generator, kDouble));
    others = torch::matmul(q.back(), others);
  }
  if (m >= n) q.push_back(torch::matmul(p, others.t()));
  else q.insert(q.begin(), torch::matmul(others.t(), p));
  std::vector<Factor> factors;
  for (const auto& each : q) factors.push_back({cat("W", factors.size() + 1), kEps * each});
  return FactorChain(std::move(factors));
}

std::vector<double> descend(FactorChain chain, const Problem& problem, double lr, int steps) {
  std::vector<double> losses;
  for (int step = 0; step < steps; ++step) {
    chain->zero_grad();
    const auto loss = problem.loss(chain);
    losses.push_back(loss.item<double>());
    loss.backward();
    torch::NoGradGuard no_grad;
    for (const auto& group : chain->param_groups())
      for (const auto& param : group.params) param.value.sub_(param.value.grad(), lr * group.lr_scale);
  }
  return losses;
}

TEST(CompressionTest, SpansAreThoseOfTheAuthorsForTheSameP) {
  for (const auto& sizes : kSizes) {
    Problem problem(sizes);
    const auto p = full_p(problem);
    const auto chain = full_width_chain(p, sizes.depth, problem.generator);
    ASSERT_TRUE(close(chain->product(), std::pow(kEps, sizes.depth) * p, 1e-14));
    // The authors' recipe: G = dLoss/dW_1; V = orth[right singular vectors of G and of G^T W_1], U =
    // W_L...W_1 V / eps^L.
    problem.loss(chain).backward();
    const auto& first = chain->factors().front().value;
    const auto leading_right = [](const torch::Tensor& matrix) {
      return std::get<2>(torch::linalg_svd(matrix)).narrow(0, 0, kRank).t();
    };
    const auto by_gradient = leading_right(first.grad()),
               by_start = leading_right(torch::matmul(first.grad().t(), first.detach()));
    const auto v = std::get<0>(torch::linalg_qr(torch::cat({by_gradient, by_start}, 1)));
    const auto u = torch::matmul(chain->product().detach(), v) / std::pow(kEps, sizes.depth);
    EXPECT_LT(subspace_distance(v, value(problem.compressed, "V").t()), 1e-12) << sizes.m << "x" << sizes.n;
    EXPECT_LT(subspace_distance(u, value(problem.compressed, "U")), 1e-12) << sizes.m << "x" << sizes.n;
    EXPECT_TRUE(close(torch::matmul(u.t(), u), torch::eye(2 * kRank, kDouble), 1e-12));
  }
}

TEST(CompressionTest, FollowsTheFullWidthTrajectory) {
  // Theory (Theorem 2.1): inside the span both chains take the same steps; outside, the full-width product
  // stays rho^L P with rho <- rho (1 - lr rho^(2L - 2)), which adds (min(m, n) - 2 r') rho^(2L) / 2 to its
  // loss. So the two loss curves differ by that term and rounding.
  const double lr = 0.2;
  const int steps = 400;
  for (const auto& sizes : kSizes) {
    Problem problem(sizes);
    const auto full = full_width_chain(full_p(problem), sizes.depth, problem.generator);
    const auto expected = descend(full, problem, lr, steps), losses = descend(problem.compressed, problem, lr, steps);
    double rho = kEps, largest = 0;
    for (int step = 0; step < steps; ++step) {
      const double outside =
          0.5 * static_cast<double>(std::min(sizes.m, sizes.n) - 2 * kRank) * std::pow(rho, 2.0 * sizes.depth);
      largest = std::max(largest, std::abs(expected[step] - losses[step] - outside));
      rho *= 1 - lr * std::pow(rho, 2.0 * sizes.depth - 2);
    }
    EXPECT_LT(largest, 1e-12) << sizes.m << "x" << sizes.n << " depth " << sizes.depth;
    if (sizes.depth <= 3) {
      EXPECT_LT(losses.back(), 1e-3 * losses.front()) << "the curve never left its plateau";
    }
  }
}

TEST(CompressionTest, TheAuthorsCompressionTakesTheSameStepsForEveryGamma) {
  // The authors' chain, from their full-width factors: V = orth[right singular vectors of G and of G^T W_1], U =
  // W_{L:1} V / eps^L, inner factors eps I. Its bases are rotations of ours, and gradient descent does not see
  // rotations. So the products are the same matrices at every step, with outer factors frozen, slow (gamma = 0.01) or
  // as fast as the inner ones.
  const double lr = 0.2;
  for (const auto& sizes : kSizes) {
    for (const double gamma : {0.0, 0.01, 1.0}) {
      Problem problem(sizes);
      const auto full = full_width_chain(full_p(problem), sizes.depth, problem.generator);
      problem.loss(full).backward();
      const auto g = full->factors().front().value.grad(), first = full->factors().front().value.detach();
      const auto leading_right = [](const torch::Tensor& m) {
        return std::get<2>(torch::linalg_svd(m)).narrow(0, 0, kRank).t();
      };
      const auto v =
          std::get<0>(torch::linalg_qr(torch::cat({leading_right(g), leading_right(torch::matmul(g.t(), first))}, 1)));
      const auto u = torch::matmul(full->product().detach(), v) / std::pow(kEps, sizes.depth);
      std::vector<Factor> theirs{{"V", v.t(), gamma}}, ours{{"V", value(problem.compressed, "V"), gamma}};
      for (int64_t i = 1; i <= sizes.depth; ++i)
        for (auto* factors : {&theirs, &ours}) factors->push_back({cat("W", i), kEps * torch::eye(2 * kRank, kDouble)});
      theirs.push_back({"U", u, gamma});
      ours.push_back({"U", value(problem.compressed, "U"), gamma});
      FactorChain a(theirs), b(ours);
      double largest = 0;
      for (int step = 0; step < 20; ++step) {
        descend(a, problem, lr, 10);
        descend(b, problem, lr, 10);
        largest = std::max(largest, (a->product() - b->product()).abs().max().item<double>());
      }
      EXPECT_LT(largest, 1e-12) << sizes.m << "x" << sizes.n << " depth " << sizes.depth << " gamma " << gamma;
    }
  }
}

TEST(CompressionTest, TheProductIsThatOfTheFullWidthChainAtEveryStep) {
  // Not only the loss: W_full = W_compressed + rho^L (P - U V^T), entry by entry (see the next test for rho).
  const double lr = 0.2;
  for (const auto& sizes : kSizes) {
    Problem problem(sizes);
    const auto p = full_p(problem);
    const auto full = full_width_chain(p, sizes.depth, problem.generator);
    const auto outside = p - torch::matmul(value(problem.compressed, "U"), value(problem.compressed, "V"));
    double rho = kEps, largest = 0;
    for (int step = 0; step < 300; ++step) {
      descend(full, problem, lr, 1);
      descend(problem.compressed, problem, lr, 1);
      rho *= 1 - lr * std::pow(rho, 2.0 * sizes.depth - 2);
      const auto difference = full->product() - problem.compressed->product() - std::pow(rho, sizes.depth) * outside;
      largest = std::max(largest, difference.abs().max().item<double>());
    }
    EXPECT_LT(largest, 1e-12) << sizes.m << "x" << sizes.n << " depth " << sizes.depth;
    EXPECT_GT(problem.compressed->product().norm().item<double>(), sizes.depth <= 3 ? 0.9 : 1e-6);
  }
}

TEST(CompressionTest, DrawsADifferentSubspaceForEachSeed) {
  Problem problem({40, 40, 3});
  const auto pairs = leading_singular_pairs(-problem.target, kRank, problem.generator);
  const auto other = compressed_chain(pairs.u, pairs.v, 3, kEps, 0, make_generator(2, "other"));
  // The gradient's directions are shared, the directions P^T U_G are not.
  EXPECT_GT(subspace_distance(value(other, "V").t(), value(problem.compressed, "V").t()), 0.1);
}

}  // namespace
}  // namespace deeplora
