#include "completion/sensing.h"

#include <torch/torch.h>

#include <cmath>

namespace deeplora {
namespace {

class SensingObjective : public Objective {
 public:
  SensingObjective(const Measurements& measured, int64_t width, at::ScalarType dtype)
      : matrices_(measured.matrices.to(dtype)), values_(measured.values.to(dtype)) {
    const auto options = torch::TensorOptions().dtype(dtype);
    b_ = torch::zeros({measured.rows, width}, options);
    a_t_ = torch::zeros({measured.cols, width}, options);
    db_ = torch::zeros_like(b_);
    da_t_ = torch::zeros_like(a_t_);
  }

  int64_t count() const override { return values_.numel(); }
  double value() override {
    residual_ = measure(at::mm(b_, a_t_.t())) - values_;
    return residual_.square().sum(torch::kFloat64).item<double>() / 2;
  }
  double gradient() override {
    const double loss = value();
    propagate();
    return loss;
  }
  void propagate() override {
    const torch::Tensor gamma = at::mv(matrices_.t(), residual_).view({rows(), cols()});  // sum_k r_k A_k
    at::mm_out(db_, gamma, a_t_);
    at::mm_out(da_t_, gamma.t(), b_);
  }
  std::array<double, 5> along(const torch::Tensor& p, const torch::Tensor& q) override {
    return squares_along(residual_, measure(at::mm(b_, q.t()) + at::mm(p, a_t_.t())), measure(at::mm(p, q.t())));
  }

 private:
  torch::Tensor measure(const torch::Tensor& w) const { return at::mv(matrices_, w.reshape(-1)); }
  torch::Tensor matrices_, values_, residual_;
};

}  // namespace

Measurements gaussian_measurements(const torch::Tensor& target, int64_t count, at::Generator generator) {
  torch::NoGradGuard no_grad;
  Measurements out{.rows = target.size(0), .cols = target.size(1), .matrices = {}, .values = {}};
  out.matrices = at::randn({count, target.numel()}, generator, torch::kFloat64) / std::sqrt(static_cast<double>(count));
  out.values = at::mv(out.matrices, target.to(torch::kFloat64).reshape(-1));
  return out;
}

Problem sensing_problem(Measurements measurements) {
  Problem out{.rows = measurements.rows,
              .cols = measurements.cols,
              .count = measurements.values.numel(),
              .gain = 1,
              .objective = {},
              .sampled = {}};
  out.objective = [measurements = std::move(measurements)](int64_t width, at::ScalarType dtype) {
    return std::make_unique<SensingObjective>(measurements, width, dtype);
  };
  return out;
}

}  // namespace deeplora
