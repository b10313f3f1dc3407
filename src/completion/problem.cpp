#include "completion/problem.h"

#include <torch/torch.h>

#include <algorithm>

#include "completion/residuals.h"

namespace deeplora {
namespace {

bool as_large_as_the_matrix(const Observations& observed, int64_t width) {
  return 2 * width >= std::min(observed.rows, observed.cols);
}

std::unique_ptr<Objective> objective_of(const Observations& observed, int64_t width, at::ScalarType dtype) {
  if (as_large_as_the_matrix(observed, width)) return std::make_unique<DenseResiduals>(observed, width, dtype);
  return std::make_unique<Residuals>(observed, width, dtype);
}

/// `batch` of `count` positions without replacement, by Floyd's method: O(batch) however many there are.
torch::Tensor draw_positions(int64_t count, int64_t batch, at::Generator& generator) {
  if (batch >= count) return torch::arange(count);
  if (batch * 4 >= count) return at::randperm(count, generator, torch::kInt64).narrow(0, 0, batch);
  torch::Tensor drawn;
  // Doubles are redrawn, which leaves the subset uniform.
  for (torch::Tensor fresh = at::randint(count, {batch}, generator, torch::kInt64);;
       fresh = at::randint(count, {batch - drawn.numel()}, generator, torch::kInt64)) {
    drawn = std::get<0>(at::_unique(drawn.defined() ? at::cat({drawn, fresh}) : fresh, /*sorted=*/true, false));
    if (drawn.numel() == batch) return drawn;
  }
}

}  // namespace

Problem completion_problem(Observations observed) {
  Problem out{.rows = observed.rows,
              .cols = observed.cols,
              .count = observed.count(),
              .gain = observed.density(),
              .objective = {},
              .sampled = {}};
  out.objective = [observed](int64_t width, at::ScalarType dtype) { return objective_of(observed, width, dtype); };
  out.sampled = [observed](int64_t width, at::ScalarType dtype, int64_t batch, at::Generator generator) {
    return objective_of(observed.select(draw_positions(observed.count(), batch, generator)), width, dtype);
  };
  return out;
}

std::array<double, 5> Objective::squares_along(const torch::Tensor& r, const torch::Tensor& d1,
                                               const torch::Tensor& d2) {
  const auto dot = [](const torch::Tensor& x, const torch::Tensor& y) {
    return (x * y).sum(torch::kFloat64).item<double>();
  };
  return {dot(r, r) / 2, dot(r, d1), dot(d1, d1) / 2 + dot(r, d2), dot(d1, d2), dot(d2, d2) / 2};
}

DenseResiduals::DenseResiduals(const Observations& observed, int64_t width, at::ScalarType dtype) {
  const auto options = torch::TensorOptions().dtype(dtype);
  place_ = observed.row.to(torch::kInt64) * observed.cols + observed.col;
  target_ = observed.value.to(dtype);
  residual_ = torch::zeros({observed.rows, observed.cols}, options);
  product_ = torch::empty({observed.rows, observed.cols}, options);
  b_ = torch::zeros({observed.rows, width}, options);
  a_t_ = torch::zeros({observed.cols, width}, options);
  db_ = torch::zeros_like(b_);
  da_t_ = torch::zeros_like(a_t_);
}

double DenseResiduals::value() {
  at::mm_out(product_, b_, a_t_.t());
  const torch::Tensor residual = product_.view(-1).index_select(0, place_) - target_;
  residual_.view(-1).zero_().index_add_(0, place_, residual);
  return residual.square().sum(torch::kFloat64).item<double>() / 2;
}

double DenseResiduals::gradient() {
  const double loss = value();
  propagate();
  return loss;
}

std::array<double, 5> DenseResiduals::along(const torch::Tensor& p, const torch::Tensor& q) {
  const auto at_places = [&](const torch::Tensor& whole) { return whole.view(-1).index_select(0, place_); };
  return squares_along(at_places(residual_), at_places(at::mm(b_, q.t()) + at::mm(p, a_t_.t())),
                       at_places(at::mm(p, q.t())));
}

void DenseResiduals::propagate() {
  at::mm_out(db_, residual_, a_t_);
  at::mm_out(da_t_, residual_.t(), b_);
}

}  // namespace deeplora
