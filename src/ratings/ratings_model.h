// What completion knows about ratings once fitted: mean + row bias + column bias + B_i . A_j. Free of LibTorch.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "ratings/ratings.h"

namespace deeplora {

/// A model of an m x n matrix: W_ij = mean + row_bias_i + col_bias_j + sum_k row_factor[i, k] col_factor[j, k], clipped
/// to `range`. The factors are the two halves B [m, r] and A^T [n, r] of a factor chain of any depth.
struct RatingsModel {
  int64_t rows = 0, cols = 0, rank = 0;
  double mean = 0;
  std::optional<std::pair<double, double>> range;
  std::vector<double> row_bias, col_bias;      ///< [m], [n]; empty without biases
  std::vector<double> row_factor, col_factor;  ///< [m, r], [n, r] row-major
  /// What folding in a new row needs: ridge penalties of the coordinates (factors, then the bias) in units of squared
  /// rating ...
  std::vector<double> row_penalty;
  bool penalty_per_rating = false;  ///< a row's penalties grow with the number of its ratings (als with `weighted`)
  /// ... and the implicit-feedback part, [n, r + 1] (SVD++'s y_j; last: bias): the penalty pulls a row towards
  /// |N|^-1/2 sum_{j in N} link_j, N its rated columns. Empty without it.
  std::vector<double> row_link;
  /// ... and for bayes the columns' posterior covariances, [n, r (r + 1) / 2 (+ r with biases)]: lower triangles of the
  /// factors', then factors with bias: uncertain columns count less. Empty for point estimates.
  std::vector<float> col_covariance;
  /// ... and for als with a penalty on the product what the unobserved columns add to the system: lower triangle [r (r
  /// + 1) / 2]. Empty without it.
  std::vector<double> everywhere;
  bool bias_first = false;  ///< chain: a row's bias is fitted without its factors, these to what it leaves

  bool biases() const { return !row_bias.empty(); }
  /// W_ij; -1 stands for a row or column that was not trained on and adds nothing.
  double predict(int64_t row, int64_t col) const;
  /// The same for a folded-in row: `coordinates` are its factors, then its bias.
  double predict(std::span<const double> coordinates, int64_t col) const;
};

/// Root mean squared and mean absolute error.
struct RatingErrors {
  double rmse = 0, mae = 0;
};
RatingErrors errors_of(const RatingsModel& model, const Ratings& ratings);

/// Coordinates (r factors, then the bias, 0 without biases) of a row that was not trained on, from its ratings of known
/// columns: argmin_x E sum_j (v_j - mean - col_bias_j - x . (A_j, 1))^2 + sum_k penalty_k (x_k - prior_k)^2, one linear
/// system of size r + 1: what training solves for each of its rows, so a trained row's ratings give its coordinates
/// once training has converged. Columns -1 are left out.
std::vector<double> fold_in(const RatingsModel& model, std::span<const int32_t> cols, std::span<const double> values);

/// Rows of `order` sorted from the largest to the smallest value, ties by number.
struct Scored {
  int64_t col;
  double value;
};
/// The n columns with the largest predictions for these coordinates, without those in `seen`. Ordered by the unclipped
/// value.
std::vector<Scored> top_n(const RatingsModel& model, std::span<const double> coordinates,
                          const std::vector<int32_t>& seen, int64_t n);
/// Factors, then the bias, of a trained row.
std::vector<double> coordinates_of(const RatingsModel& model, int64_t row);

/// Mean of all values; the first baseline.
RatingsModel fit_mean(const Ratings& train);

/// Mean and ridge-regularised biases, the second baseline: argmin sum (v - mean - b_i - c_j)^2 + row_penalty |b|^2 +
/// col_penalty |c|^2 with the mean held at the values' mean, by exact alternation to 1e-10. Absent penalties are
/// estimated: variance of the noise over variance of the biases, by expectation maximisation.
struct BiasOptions {
  std::optional<double> row_penalty, col_penalty;
};
RatingsModel fit_biases(const Ratings& train, const BiasOptions& options = {});

/// Solves the symmetric positive definite system packed row by row in the lower triangle [size (size + 1) / 2], in
/// place, by Cholesky: `matrix` becomes L, `right` the solution. False when the matrix is not positive definite.
bool solve_packed(std::span<double> matrix, std::span<double> right);

}  // namespace deeplora
