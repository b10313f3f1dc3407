// Oracles: finite differences in float64, dense products, polynomials evaluated directly.
#include "completion/residuals.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "completion/problem.h"
#include "completion/sensing.h"
#include "core/random.h"

namespace deeplora {
namespace {

at::Generator generator(uint64_t seed = 1) { return make_generator(seed, "test"); }

torch::Tensor gaussian(int64_t rows, int64_t cols, at::Generator g) {
  return at::randn({rows, cols}, g, torch::kFloat64);
}

/// Rows of very different lengths, empty ones among them.
Observations sample(int64_t rows, int64_t cols, double share, uint64_t seed = 3) {
  at::Generator g = generator(seed);
  torch::Tensor mask = at::rand({rows, cols}, g, torch::kFloat64) < share * 2 * torch::arange(rows).unsqueeze(1) / rows;
  mask[rows / 2].fill_(false);
  const torch::Tensor places = mask.nonzero();
  return Observations::make(rows, cols, places.select(1, 0), places.select(1, 1),
                            at::randn({places.size(0)}, g, torch::kFloat64));
}

void fill(Objective& objective, uint64_t seed) {
  at::Generator g = generator(seed);
  objective.b().copy_(gaussian(objective.rows(), objective.width(), g));
  objective.a_t().copy_(gaussian(objective.cols(), objective.width(), g));
}

// Every width that has a loop of its own, and those that do not fill their vectors.
class ResidualsOfWidth : public testing::TestWithParam<int64_t> {};

TEST_P(ResidualsOfWidth, AgreesWithDenseProducts) {
  const Observations observed = sample(37, 29, 0.4);
  Residuals sparse(observed, GetParam(), torch::kFloat64);
  DenseResiduals dense(observed, GetParam(), torch::kFloat64);
  fill(sparse, 5);
  fill(dense, 5);
  EXPECT_NEAR(sparse.gradient(), dense.gradient(), 1e-10 * dense.value());
  EXPECT_NEAR(sparse.value(), dense.value(), 1e-10 * dense.value());
  EXPECT_TRUE(at::allclose(sparse.db(), dense.db(), 1e-11, 1e-10));
  EXPECT_TRUE(at::allclose(sparse.da_t(), dense.da_t(), 1e-11, 1e-10));
  // Products with the same residuals but other halves.
  fill(sparse, 6);
  fill(dense, 6);
  sparse.propagate();
  dense.propagate();
  EXPECT_TRUE(at::allclose(sparse.db(), dense.db(), 1e-11, 1e-10));
  EXPECT_TRUE(at::allclose(sparse.da_t(), dense.da_t(), 1e-11, 1e-10));
}

TEST_P(ResidualsOfWidth, AgreesWithItselfInFloat32) {
  const Observations observed = sample(37, 29, 0.4);
  Residuals single(observed, GetParam(), torch::kFloat32), twice(observed, GetParam(), torch::kFloat64);
  fill(single, 5);
  fill(twice, 5);
  EXPECT_NEAR(single.gradient(), twice.gradient(), 1e-5 * twice.value());
  EXPECT_TRUE(at::allclose(single.db().to(torch::kFloat64), twice.db(), 1e-4, 1e-3 * static_cast<double>(GetParam())));
  EXPECT_TRUE(
      at::allclose(single.da_t().to(torch::kFloat64), twice.da_t(), 1e-4, 1e-3 * static_cast<double>(GetParam())));
}

TEST_P(ResidualsOfWidth, LossAlongALineIsThePolynomial) {
  const Observations observed = sample(37, 29, 0.4);
  Residuals residuals(observed, GetParam(), torch::kFloat64);
  fill(residuals, 7);
  at::Generator g = generator(8);
  const torch::Tensor p = gaussian(37, GetParam(), g), q = gaussian(29, GetParam(), g);
  residuals.value();
  const auto c = residuals.along(p, q);
  for (const double t : {0.0, 0.3, -1.2}) {
    Residuals there(observed, GetParam(), torch::kFloat64);
    fill(there, 7);
    there.b().add_(p, t);
    there.a_t().add_(q, t);
    const double expected = there.value(), found = c[0] + t * (c[1] + t * (c[2] + t * (c[3] + t * c[4])));
    EXPECT_NEAR(found, expected, 1e-10 * expected) << t;
  }
}

INSTANTIATE_TEST_SUITE_P(Widths, ResidualsOfWidth, testing::Values(1, 5, 8, 10, 17, 24, 31, 32, 40, 57));

TEST(ResidualsTest, GradientMatchesFiniteDifferences) {
  const Observations observed = sample(7, 6, 0.6);
  at::Generator g = generator();
  torch::Tensor b = gaussian(7, 3, g).requires_grad_(), a_t = gaussian(6, 3, g).requires_grad_();
  (2 * residual_loss(b, a_t, observed)).backward();
  constexpr double kStep = 1e-6;
  for (const torch::Tensor& half : {b, a_t}) {
    torch::NoGradGuard no_grad;
    for (int64_t i = 0; i < half.numel(); ++i) {
      torch::Tensor entry = half.view(-1)[i];
      const double before = entry.item<double>();
      entry.fill_(before + kStep);
      const double up = residual_loss(b, a_t, observed).item<double>();
      entry.fill_(before - kStep);
      const double down = residual_loss(b, a_t, observed).item<double>();
      entry.fill_(before);
      EXPECT_NEAR(half.grad().view(-1)[i].item<double>(), 2 * (up - down) / (2 * kStep), 1e-7);
    }
  }
}

TEST(ResidualsTest, KeepsResidualsInTheOrderOfTheObservations) {
  const Observations observed = sample(11, 9, 0.5);
  Residuals residuals(observed, 4, torch::kFloat64);
  fill(residuals, 2);
  residuals.value();
  const torch::Tensor product = at::matmul(residuals.b(), residuals.a_t().t());
  EXPECT_TRUE(
      at::allclose(residuals.residuals(),
                   product.index({observed.row.to(torch::kInt64), observed.col.to(torch::kInt64)}) - observed.value));
}

TEST(ResidualsTest, RepeatedPlacesCountOnceEach) {
  const auto place = torch::tensor({0, 0, 0}), value = torch::tensor({1.0, 2.0, 4.0}, torch::kFloat64);
  Residuals residuals(Observations::make(1, 1, place, place, value), 1, torch::kFloat64);
  EXPECT_DOUBLE_EQ(residuals.gradient(), (1 + 4 + 16) / 2.0);
}

TEST(ResidualsTest, SharesOfSeveralThreadsSumToTheSame) {
  const Observations observed = sample(400, 50, 0.6);  // enough entries for two parts
  ASSERT_GT(observed.count(), 8192);
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  Residuals one(observed, 10, torch::kFloat64);
  at::set_num_threads(2);
  Residuals two(observed, 10, torch::kFloat64), again(observed, 10, torch::kFloat64);
  for (Residuals* r : {&one, &two, &again}) fill(*r, 4);
  EXPECT_NEAR(one.gradient(), two.gradient(), 1e-12 * one.value());
  again.gradient();
  at::set_num_threads(before);
  EXPECT_TRUE(at::allclose(one.da_t(), two.da_t(), 1e-12, 1e-10));
  EXPECT_TRUE(at::equal(one.db(), two.db()));
  EXPECT_TRUE(at::equal(two.da_t(), again.da_t()));  // the same bits for the same number of threads
}

TEST(SensingTest, GradientMatchesAutograd) {
  at::Generator g = generator();
  const Measurements measured = gaussian_measurements(gaussian(6, 5, g), 12, g);
  const auto objective = sensing_problem(measured).objective(3, torch::kFloat64);
  fill(*objective, 3);
  torch::Tensor b = objective->b().clone().requires_grad_(), a_t = objective->a_t().clone().requires_grad_();
  const torch::Tensor loss =
      (at::mv(measured.matrices, at::mm(b, a_t.t()).reshape(-1)) - measured.values).square().sum() / 2;
  loss.backward();
  EXPECT_NEAR(objective->gradient(), loss.item<double>(), 1e-10);
  EXPECT_TRUE(at::allclose(objective->db(), b.grad()));
  EXPECT_TRUE(at::allclose(objective->da_t(), a_t.grad()));
}

}  // namespace
}  // namespace deeplora
