// Targets of known low rank, observed in part: the paper's test problems, where the error everywhere can be measured.
#pragma once

#include <ATen/core/Generator.h>
#include <torch/types.h>

#include <memory>

#include "completion/observations.h"
#include "completion/residuals.h"

namespace deeplora {

/// M = u v^T with u [m, k], v [n, k], float64.
struct LowRankTarget {
  torch::Tensor u, v;
  int64_t rows() const { return u.size(0); }
  int64_t cols() const { return v.size(0); }
  /// M at the places of `observed` [N], float64.
  torch::Tensor at(const Observations& observed) const;
};

/// The best rank-k approximation of an m x n matrix of N(0, 1) entries (the paper's target); m n memory while it is
/// made.
LowRankTarget gaussian_target(int64_t rows, int64_t cols, int64_t rank, at::Generator generator);

/// Haar-distributed singular vectors, all k singular values sqrt(m) + sqrt(n) (where those of the Gaussian's best
/// approximation lie, too, as m and n grow): O((m + n) k) memory, for matrices that are too large to be dense.
LowRankTarget factor_target(int64_t rows, int64_t cols, int64_t rank, at::Generator generator);

/// `wanted` of `all` positions, drawn without replacement, rising [wanted]. More than `listable` of them are not listed
/// to be drawn from; memory then goes with `wanted`, or with `all` bytes where more than half is wanted.
torch::Tensor draw_places(int64_t all, int64_t wanted, at::Generator generator, int64_t listable = int64_t{1} << 25);

/// round(share m n) entries chosen uniformly without replacement, plus N(0, noise^2). share in (0, 1].
Observations observe(const LowRankTarget& target, double share, double noise, at::Generator generator);

/// The paper's recovery error: the mean over the unobserved entries of 1/2 (W - M)^2, W = b a_t^T, in O((m + n + N) r)
/// and with full relative accuracy for small errors (QR cores instead of Gram matrices). With everything observed: the
/// mean over all entries. Halves as large as the matrix are multiplied out instead.
class RecoveryMeter {
 public:
  RecoveryMeter(LowRankTarget target, Observations observed);
  double operator()(const torch::Tensor& b, const torch::Tensor& a_t);

 private:
  double everywhere(const torch::Tensor& left, const torch::Tensor& right) const;
  LowRankTarget target_;
  Observations zeros_;                  ///< the observed places with values 0: their loss is that of the difference
  std::unique_ptr<Residuals> on_seen_;  ///< of the last width
};

}  // namespace deeplora
