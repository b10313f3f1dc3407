// What a chain is fitted to: a number of residuals affine in W, and what else is known about the answer.
#pragma once

#include <ATen/core/Generator.h>

#include <functional>
#include <memory>

#include "completion/objective.h"
#include "completion/observations.h"

namespace deeplora {

/// Makes the problem's loss for halves of any width; functions that a problem does not have are empty.
struct Problem {
  int64_t rows = 0, cols = 0;  ///< W is [rows, cols] = m x n
  int64_t count = 0;           ///< residuals of the whole problem
  double gain = 1;             ///< the summed loss is gain/2 |W - M|^2 on average over random targets
  std::function<std::unique_ptr<Objective>(int64_t width, at::ScalarType)> objective;
  /// The loss of `batch` residuals drawn without replacement.
  std::function<std::unique_ptr<Objective>(int64_t width, at::ScalarType, int64_t batch, at::Generator)> sampled;
};

/// 1/2 sum over the observed entries of (W - M)^2. Halves narrower than half the smaller side use the sparse kernel
/// (Residuals); wider ones, which hold as much as W itself, dense products.
Problem completion_problem(Observations observed);

/// The same loss by dense products of halves of any width, m x n memory: the original's way, and an oracle for
/// Residuals.
class DenseResiduals : public Objective {
 public:
  DenseResiduals(const Observations& observed, int64_t width, at::ScalarType dtype);
  int64_t count() const override { return target_.numel(); }
  double value() override;
  double gradient() override;
  void propagate() override;
  std::array<double, 5> along(const torch::Tensor& p, const torch::Tensor& q) override;

 private:
  torch::Tensor place_;     ///< [N] int64, row-major position
  torch::Tensor target_;    ///< [N]
  torch::Tensor residual_;  ///< [m, n], zero where nothing is observed
  torch::Tensor product_;   ///< [m, n]
};

}  // namespace deeplora
