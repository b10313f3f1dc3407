// Fits the two halves of a factor chain and the biases to ratings by exact alternation, row by row and column by
// column. Free of LibTorch.
//
// `als`: ridge regression of each row on the columns' factors and back (Zhou et al. 2008 with `weighted`).
// `bayes`: the same alternation with every row's and column's posterior covariance carried along, so that uncertain
// factors count less, and with noise and penalties per factor learned from the data (variational matrix factorization,
// Lim and Teh 2007): what a validated grid of penalties approximates. Unneeded factors shrink to zero, so the rank is
// an upper bound. `implicit`: which columns a row has rated moves its prior mean, as the implicit feedback of SVD++
// (Koren 2008) and the side information of Macau (Simm et al. 2017): x_i ~ N(|N_i|^-1/2 sum_{j in N_i} y_j, 1 /
// penalty), y by ridge regression (conjugate gradients).
#pragma once

#include <functional>
#include <string>

#include "ratings/ratings_model.h"

namespace deeplora {

struct FactorOptions {
  int64_t rank = 10;
  bool bayes = true;
  bool biases = true;
  int64_t sweeps = 60;  ///< passes over rows and columns
  /// als: the penalty, in units of squared standardised rating; bayes: multiplies the learned penalties.
  std::optional<double> regularization;
  bool weighted = false;    ///< als: a row's penalty grows with the number of its ratings
  bool on_product = false;  ///< als: a further penalty regularization x |B A|^2 over all m n entries / (m n / observed)
  bool implicit_rows = false, implicit_cols = false;
  double implicit_regularization = 1;  ///< ridge of y in units of the factors' own spread
  uint64_t seed = 1;
  int threads = 1;
  /// Called after every sweep with the model so far; false ends the fit.
  std::function<bool(int64_t sweep, const RatingsModel& model)> after_sweep;
};

/// Throws Error when the values do not vary or memory would not do. The model's `range` is left unset.
RatingsModel fit_rating_factors(const Ratings& train, const FactorOptions& options);

}  // namespace deeplora
