// What completion knows about ratings once fitted: mean + row bias + column bias + B_i . A_j. Free of LibTorch.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "ratings/ratings.h"

namespace deeplora {

/// Effects of rows (or of columns) within periods of time: period p of row i adds value to its ratings of that time.
struct PeriodEffects {
  double period = 0;            ///< in the times' unit; 0: there are none
  std::vector<int32_t> id;      ///< row of each effect, ascending ...
  std::vector<int64_t> number;  ///< ... and floor(time / period), ascending within a row
  std::vector<double> value;    ///< [draws, effects]
  /// Number of the effect of `who` (-1: not known) at `time`, or -1.
  int64_t find(int64_t who, std::optional<double> time) const;
};

/// What a fit goes on from when ratings are added to it: everything that is not in the model's own parts.
struct FitState {
  double unit = 1, precision = 1;                ///< ratings are (value - mean) / unit inside; of the noise, there
  std::vector<double> row_penalty, col_penalty;  ///< [K], precisions of the priors of factors and bias
  std::vector<double> row_center, col_center;    ///< [K], their means; empty: 0
  std::vector<double> col_bias_variance;         ///< [n] (bayes)
  double row_period_penalty = 0, col_period_penalty = 0;
  int64_t sweeps = 0;  ///< made so far
};

/// A prediction and the standard deviation of a rating about it.
struct Spread {
  double mean = 0, deviation = 0;
};

/// A model of an m x n matrix: W_ij = mean + row_bias_i + col_bias_j + sum_k row_factor[i, k] col_factor[j, k], clipped
/// to `range`. The factors are the two halves B [m, r] and A^T [n, r] of a factor chain of any depth.
///
/// Of several draws from a posterior (`gibbs`) it is the mean prediction of S models of rank r / S: their factors stand
/// side by side in the two halves, those of the rows divided by S, so that B A is the mean product.
struct RatingsModel {
  int64_t rows = 0, cols = 0, rank = 0;
  int64_t draws = 1;  ///< S
  double mean = 0;
  std::optional<std::pair<double, double>> range;
  std::vector<double> row_bias, col_bias;      ///< [S, m], [S, n]; empty without biases
  std::vector<double> row_factor, col_factor;  ///< [m, r], [n, r] row-major
  PeriodEffects row_periods, col_periods;
  std::vector<double> noise;  ///< [S] variance of a rating about its prediction; empty where it is not known
  /// Ordered probit: the values that ratings take, ascending [V], and where the latent value passes from one to the
  /// next [S, V - 1]; everything above is then about latent values. Empty: ratings are the value itself.
  std::vector<double> levels, cutpoints;
  /// What folding in a new row needs: ridge penalties of the coordinates (factors, then the bias) in units of squared
  /// rating, [S, r / S + 1] ...
  std::vector<double> row_penalty;
  /// ... and the means of the priors, alike for rows and columns: what is known of one that was not trained on. Empty:
  /// 0 ...
  std::vector<double> row_center, col_center;
  bool penalty_per_rating = false;  ///< a row's penalties grow with the number of its ratings (als with `weighted`)
  /// ... and the implicit-feedback part, [S, n, r / S + 1] (SVD++'s y_j; last: bias): the penalty pulls a row towards
  /// |N|^-1/2 sum_{j in N} link_j, N its rated columns. Empty without it.
  std::vector<double> row_link;
  /// ... and for bayes the columns' posterior covariances, [n, r (r + 1) / 2 (+ r with biases)]: lower triangles of the
  /// factors', then factors with bias: uncertain columns count less. Empty for point estimates.
  std::vector<float> col_covariance;
  /// ... and for als with a penalty on the product what the unobserved columns add to the system: lower triangle [r (r
  /// + 1) / 2]. Empty without it.
  std::vector<double> everywhere;
  bool bias_first = false;  ///< chain: a row's bias is fitted without its factors, these to what it leaves

  std::optional<FitState> state;  ///< absent: fitted anew when ratings are added

  bool biases() const { return !row_bias.empty(); }
  int64_t draw_rank() const { return rank / draws; }
  /// W_ij; -1 stands for a row or column that was not trained on and adds nothing but its prior's mean. `time`: of the
  /// rating, for effects of periods.
  double predict(int64_t row, int64_t col, std::optional<double> time = {}) const;
  /// The same for a folded-in row: `coordinates` are its factors, then its bias, for each draw. `row`: where it was
  /// trained on, else -1, for the effects of its periods.
  double predict(std::span<const double> coordinates, int64_t col, int64_t row = -1,
                 std::optional<double> time = {}) const;
  /// Prediction (unclipped) and the standard deviation of a rating: over the draws, and of the noise. Throws
  /// std::logic_error for a model without noise.
  Spread spread(std::span<const double> coordinates, int64_t col, int64_t row = -1,
                std::optional<double> time = {}) const;
};

/// The last of a model's draws, alone.
RatingsModel last_draw(const RatingsModel& model);
/// The model that predicts the mean of `draws`, each of one draw and all fitted to the same ratings.
RatingsModel mean_of_draws(const std::vector<RatingsModel>& draws);
/// Biases averaged over the draws: with the halves, mean + bias + bias + B A is the mean prediction.
std::vector<double> mean_bias(const std::vector<double>& bias, int64_t draws);

/// How good the k columns with the largest predictions are, those that a row is known to have rated left out, against
/// its relevant held-out ratings. Means over the rows that have such.
struct TopScores {
  int64_t k = 0;
  double relevant = 0;   ///< ratings of at least this are relevant
  double precision = 0;  ///< share of the k that are relevant
  double recall = 0;     ///< share of the relevant that are among the k
  double ndcg = 0;       ///< sum of 1 / log2(place + 1) of the relevant, over that of the best order
  double map = 0;        ///< sum of the precisions at the relevant ones' places, over the number of relevant
  double coverage = 0;   ///< share of all columns that are among some row's k
  int64_t rows = 0;
};

/// Root mean squared and mean absolute error, and scores of the best columns where they were asked for.
struct RatingErrors {
  double rmse = 0, mae = 0;
  std::optional<TopScores> top = {};
};
RatingErrors errors_of(const RatingsModel& model, const Ratings& ratings);

/// Coordinates (r factors, then the bias, 0 without biases; so for each draw) of a row that was not trained on, from
/// its ratings of known columns: argmin_x E sum_j (v_j - mean - col_bias_j - x . (A_j, 1))^2 + sum_k penalty_k (x_k -
/// prior_k)^2, one linear system of size r + 1: what training solves for each of its rows, so a trained row's ratings
/// give its coordinates once training has converged. Columns -1 are left out. `times` (empty, or one for each) take
/// effects of columns' periods off. Ordered probit: the most probable coordinates, by expectation maximisation over the
/// latent values.
std::vector<double> fold_in(const RatingsModel& model, std::span<const int32_t> cols, std::span<const double> values,
                            std::span<const double> times = {});

/// Rows of `order` sorted from the largest to the smallest value, ties by number.
struct Scored {
  int64_t col;
  double value;
};
/// The n columns with the largest predictions for these coordinates, without those in `seen`. Ordered by the unclipped
/// value (ordered probit: by the mean latent value), without effects of periods.
std::vector<Scored> top_n(const RatingsModel& model, std::span<const double> coordinates,
                          const std::vector<int32_t>& seen, int64_t n);
/// Factors, then the bias, for each draw, of a trained row; -1: the means of the prior.
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

}  // namespace deeplora
