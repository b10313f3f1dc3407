// The sparse residual kernel: R_ij = B_i . A_j - M_ij at the observed entries, its squares and its gradients.
// Paper section on matrix completion (arXiv 2406.04112, section 3); a dense m x n array never exists.
#pragma once

#include <torch/types.h>

#include <array>
#include <vector>

#include "completion/objective.h"
#include "completion/observations.h"

namespace deeplora {

/// 1/2 sum over the observed entries of (W - M)^2, O(N r) per call, in float64 or float32. Rows are divided among the
/// threads; each adds its share of da_t in memory of its own, and the shares are summed in order: no atomics, and the
/// same bits for the same number of threads.
class Residuals : public Objective {
 public:
  /// `width` = r. Takes LibTorch's number of threads at this moment.
  Residuals(const Observations& observed, int64_t width, at::ScalarType dtype);

  int64_t count() const override { return count_; }
  double value() override;
  double gradient() override;
  void propagate() override;
  std::array<double, 5> along(const torch::Tensor& p, const torch::Tensor& q) override;
  /// R [N] in the order of the observations, float64.
  torch::Tensor residuals() const;

 private:
  struct Part {
    int64_t row_from, row_to;
  };
  void fill_blocks(const Observations& observed, const int64_t* row_begin);
  void divide_rows(int64_t parts);
  template <class T>
  double run(bool dot, bool spread);
  template <class T>
  void sum_shares(T* da, int64_t share) const;
  double dispatch(bool dot, bool spread);

  int64_t count_;
  at::ScalarType dtype_;
  int64_t lanes_per_row_;  ///< r rounded up to whole vectors of 8
  std::vector<Part> parts_;
  std::vector<int64_t> block_begin_;  ///< [m + 1] in blocks of 8 entries
  std::vector<int32_t> row_entries_;  ///< [m] entries of each row, filling left out
  torch::Tensor index_;               ///< [blocks * 8] int32 column; n (a row of zeros) fills a row's last block
  torch::Tensor target_, residual_;   ///< [blocks * 8], 0 where filled
  torch::Tensor b_memory_, a_memory_, db_memory_, da_memory_;  ///< [m or n + 1, lanes]; da: [parts, n + 1, lanes]
  torch::Tensor p_memory_, q_memory_;                          ///< of along()
};

/// The same as a differentiable function: loss = 1/2 sum (B A - M)^2 over the observed entries, a scalar of b's dtype
/// with gradients for b [m, r] and a_t [n, r]. Once differentiable. Throws std::invalid_argument when shapes do not
/// fit.
torch::Tensor residual_loss(const torch::Tensor& b, const torch::Tensor& a_t, const Observations& observed);

}  // namespace deeplora
