// The prior mean that implicit feedback gives to rows: P = F Y, F = |N_i|^-1/2 on the rated columns. Free of LibTorch.
#pragma once

#include <functional>

#include "ratings/sparse_side.h"

namespace deeplora {

/// Ridge regression of the rows' coordinates X [m, K] on which columns they rated: argmin_Y |X - F Y|^2 + ridge |Y|^2,
/// every coordinate for itself: through the smaller of F F^T and F^T F, decomposed once, where that is no larger than
/// kDense, else by conjugate gradients to 1e-3 (draws: 1e-6).
class ImplicitLink {
 public:
  static constexpr int64_t kDense = 2000;

  ImplicitLink(const SparseSide& rows, const SparseSide& cols, size_t width, double ridge, int threads);
  void fit(const std::vector<double>& coordinates);
  /// Draws Y given X ~ N(F Y, 1 / penalty) and Y ~ N(0, 1 / (ridge penalty)), by perturbing what is regressed
  /// (Papandreou and Yuille 2010). normal(i, k) and further(j, k): N(0, 1), independent, for X and for Y.
  void draw(const std::vector<double>& coordinates, const std::vector<double>& penalty,
            const std::function<double(size_t, size_t)>& normal, const std::function<double(size_t, size_t)>& further);
  const std::vector<double>& prior() const { return prior_; }  ///< F Y, [m, K]
  const std::vector<double>& link() const { return link_; }    ///< Y, [n, K]
  double ridge() const { return ridge_; }

 private:
  void decompose();
  /// out [m, K] = F y.
  void spread(const std::vector<double>& y, std::vector<double>& out) const;
  /// out [n, K] = F^T x.
  void collect(const std::vector<double>& x, std::vector<double>& out) const;
  /// F^T (F F^T + ridge)^-1 x; `tolerance` of the conjugate gradients, which begin at `dual_`.
  std::vector<double> gain(const std::vector<double>& x, double tolerance);
  void solve_dense(std::vector<double>& right) const;
  void solve_by_gradients(const std::vector<double>& x, double tolerance);
  const SparseSide &rows_, &cols_;
  size_t width_;
  double ridge_;
  int threads_;
  std::vector<double> scale_;     ///< |N_i|^-1/2
  std::vector<double> triangle_;  ///< Cholesky factor of the smaller system; empty: conjugate gradients
  bool over_rows_ = true;         ///< it is F F^T + ridge
  std::vector<double> dual_, prior_, link_;
};

}  // namespace deeplora
