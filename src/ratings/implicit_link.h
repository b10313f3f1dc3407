// The prior mean that implicit feedback gives to rows: P = F Y, F = |N_i|^-1/2 on the rated columns. Free of LibTorch.
#pragma once

#include "ratings/sparse_side.h"

namespace deeplora {

/// Ridge regression of the rows' coordinates X [m, K] on which columns they rated: argmin_Y |X - F Y|^2 + ridge |Y|^2,
/// solved as Y = F^T a, (F F^T + ridge I) a = X, by conjugate gradients, every coordinate for itself, starting from the
/// former a.
class ImplicitLink {
 public:
  ImplicitLink(const SparseSide& rows, const SparseSide& cols, size_t width, double ridge, int threads);
  void fit(const std::vector<double>& coordinates);
  const std::vector<double>& prior() const { return prior_; }  ///< F Y, [m, K]
  const std::vector<double>& link() const { return link_; }    ///< Y, [n, K]

 private:
  /// out [m, K] = F (F^T in), leaving F^T in in link_.
  void apply(const std::vector<double>& in, std::vector<double>& out);
  const SparseSide &rows_, &cols_;
  size_t width_;
  double ridge_;
  int threads_;
  std::vector<double> scale_;  ///< |N_i|^-1/2
  std::vector<double> dual_, prior_, link_;
};

}  // namespace deeplora
