// A loss of a matrix in two halves, W = B A: all that fitting a factor chain needs to know about a problem.
#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>

namespace deeplora {

/// The summed loss 1/2 sum_k y_k^2 over residuals y that are affine in W [m, n]. The halves live in the objective's own
/// memory, laid out for its loops: the caller writes b and a_t, reads db and da_t. With Gamma = dLoss/dW:
/// db = Gamma A^T [m, r], da_t = Gamma^T B [n, r].
class Objective {
 public:
  virtual ~Objective() = default;

  const torch::Tensor& b() const { return b_; }        ///< B [m, r]
  const torch::Tensor& a_t() const { return a_t_; }    ///< A^T [n, r]
  const torch::Tensor& db() const { return db_; }      ///< dLoss/dB [m, r]
  const torch::Tensor& da_t() const { return da_t_; }  ///< (dLoss/dA)^T [n, r]
  int64_t rows() const { return b_.size(0); }
  int64_t cols() const { return a_t_.size(0); }
  int64_t width() const { return b_.size(1); }
  /// Number of residuals, which a mean is taken over.
  virtual int64_t count() const = 0;

  /// The loss at b, a_t; residuals are kept for propagate().
  virtual double value() = 0;
  /// The loss, db and da_t.
  virtual double gradient() = 0;
  /// db and da_t for b and a_t as they are now, with the residuals of the last value() or gradient(): the products
  /// Gamma a_t and Gamma^T b for any a_t and b.
  virtual void propagate() = 0;
  /// Coefficients c of the loss along a line, sum_k c_k t^k = loss at (b + t p, a_t + t q); p [m, r], q [n, r]. Needs
  /// the residuals of the last value() or gradient() at b, a_t.
  virtual std::array<double, 5> along(const torch::Tensor& p, const torch::Tensor& q) = 0;

 protected:
  /// 1/2 |r + t d1 + t^2 d2|^2 as coefficients.
  static std::array<double, 5> squares_along(const torch::Tensor& r, const torch::Tensor& d1, const torch::Tensor& d2);
  torch::Tensor b_, a_t_, db_, da_t_;
};

}  // namespace deeplora
