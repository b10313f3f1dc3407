// Fits the two halves of a factor chain and the biases to ratings by exact alternation, row by row and column by
// column. Free of LibTorch.
//
// `als`: ridge regression of each row on the columns' factors and back (Zhou et al. 2008 with `weighted`).
// `bayes`: the same alternation with every row's and column's posterior covariance carried along, so that uncertain
// factors count less, and with noise and penalties per factor learned from the data (variational matrix factorization,
// Lim and Teh 2007): what a validated grid of penalties approximates. Unneeded factors shrink to zero, so the rank is
// an upper bound. `gibbs`: every row and column is drawn from that same conditional given all the others, and noise,
// penalties and the priors' means from theirs (Salakhutdinov and Mnih 2008, with a diagonal precision): a chain whose
// draws, averaged, are the exact posterior mean. `implicit`: which columns a row has rated moves its prior mean, as the
// implicit feedback of SVD++ (Koren 2008) and the side information of Macau (Simm et al. 2017): x_i ~ N(|N_i|^-1/2
// sum_{j in N_i} y_j, 1 / penalty), y by ridge regression (gibbs: drawn). Periods of time: effects of a row or a column
// within a period (timeSVD++, Koren 2009). `ordinal`: ratings are intervals of a latent value (ordered probit).
#pragma once

#include <functional>
#include <string>

#include "ratings/ratings_model.h"

namespace deeplora {

enum class FactorSolver { als, bayes, gibbs };

struct FactorOptions {
  int64_t rank = 10;
  FactorSolver solver = FactorSolver::bayes;
  bool biases = true;
  int64_t sweeps = 60;             ///< passes over rows and columns
  int64_t burn_in = 60, thin = 4;  ///< gibbs: every thin-th sweep after the first burn_in is a draw that is kept
  /// als: the penalty, in units of squared standardised rating; bayes, gibbs: multiplies the learned penalties.
  std::optional<double> regularization;
  bool weighted = false;    ///< als: a row's penalty grows with the number of its ratings
  bool on_product = false;  ///< als: a further penalty regularization x |B A|^2 over all m n entries / (m n / observed)
  bool implicit_rows = false, implicit_cols = false;
  double implicit_regularization = 1;     ///< ridge of y in units of the factors' own spread
  double row_period = 0, col_period = 0;  ///< in the unit of the ratings' times; 0: no effects (bayes, gibbs)
  bool ordinal = false;                   ///< gibbs
  uint64_t seed = 1;
  int threads = 1;
  /// Goes on from this model's state (of several draws: from the last), whose rows and columns are the first ones.
  const RatingsModel* from = nullptr;
  std::function<void()> pulse;  ///< called after every sweep; may throw
  int64_t look_every = 1;
  /// Called after every look_every-th sweep with the model so far (gibbs: with that draw); false ends the fit.
  std::function<bool(int64_t sweep, const RatingsModel& model)> after_sweep;
};

/// Throws Error when the values do not vary, or lie outside an ordinal state's levels. The model's `range` is left
/// unset; of `gibbs` it is the mean of the draws that are kept.
RatingsModel fit_rating_factors(const Ratings& train, const FactorOptions& options);

}  // namespace deeplora
