// Ratings from a file to a chosen, refitted and scored model; and cross-validation of all that. Free of LibTorch: the
// solver of deep chains is handed in.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>

#include "ratings/rating_factors.h"
#include "ratings/ratings_config.h"
#include "ratings/ratings_model.h"

namespace deeplora {

/// A fit of one candidate.
struct RatingsFit {
  RatingsModel model;
  int64_t sweeps = 0;       ///< of `model`; chain: iterations
  int64_t sweeps_done = 0;  ///< until the fit ended
  RatingErrors dev;
  std::vector<double> curve;  ///< dev RMSE after every sweep (chain: evaluation)
};

/// Fits a chain of any depth to the ratings less the biases: until `dev` (may be null) no longer gains, or for exactly
/// `iterations` of them.
using ChainSolver = std::function<RatingsFit(const Ratings& train, const Ratings* dev, const RatingsModel& biases,
                                             const RatingsCandidate& candidate, int64_t iterations)>;

/// Scores of the two baselines and the model on the same ratings.
struct RatingsScores {
  RatingErrors mean, bias, model;
  int64_t count = 0;
};

/// The outcome of choosing on held-out ratings.
struct RatingsOutcome {
  RatingsFit fit;               ///< the chosen one; rank 0 when no candidate beat the biases
  RatingsModel mean, bias;      ///< baselines, fitted on the same ratings as `fit`
  RatingsScores dev;            ///< before refitting
  bool low_rank_helps = false;  ///< the best candidate beats the biases on dev
  RatingsCandidate chosen;
  nlohmann::ordered_json
      candidates;         ///< [{"name", "solver", "rank", "depth", "regularization", "rmse", "mae", "sweeps"}]
  int64_t sweeps = 0;     ///< of all fits together
  int64_t fitted_on = 0;  ///< ratings that `fit` and the baselines were fitted on
};

/// Everything read, cleaned and split.
struct RatingsData {
  Ratings train;               ///< without test
  std::optional<Ratings> dev;  ///< of a file; else drawn when choosing
  std::optional<Ratings> test;
  std::optional<Ratings>
      all;  ///< with refit: all, of every part, over the names of all files; train's names keep their numbers
  int64_t dev_overlap = 0;   ///< ratings of dev whose pair train has too
  int64_t test_overlap = 0;  ///< ratings of test whose pair train or dev has too
  std::vector<std::string> remarks;

  /// All ratings over train's rows and columns: what is not to be recommended.
  Ratings seen() const;
  /// The same without test.
  Ratings known_before_test() const;
};

/// Throws Error as the reader and the splits do, and for pairs in two files where duplicates are declared an error.
RatingsData load_ratings(const RatingsConfig& config);

struct RatingsCallbacks {
  ChainSolver chain;
  std::function<void(const std::string&)> note = [](const std::string&) {};  ///< a line per candidate
  std::function<void()> pulse = [] {};                                       ///< every sweep; may throw to end the run
  /// The fit called `name` ("fold-2/als-r8"): makes it, or gives one that an interrupted run has kept.
  std::function<RatingsFit(const std::string& name, const std::function<RatingsFit()>& make)> kept =
      [](const std::string&, const std::function<RatingsFit()>& make) { return make(); };
};

/// Tries the grid on dev ratings, keeps the best by RMSE, compares it with the bias baseline, fits it again on train
/// and dev. `place` begins the names of its fits. With a dev_share of 0 the one candidate is fitted, on all of train.
RatingsOutcome choose_ratings_model(const RatingsConfig& config, const Ratings& train,
                                    const std::optional<Ratings>& dev, const RatingsCallbacks& callbacks,
                                    const std::string& place = "all");

/// The chosen candidate (the biases, where low rank adds nothing) fitted once more on all ratings, as many sweeps as
/// were best: no score is measured on it. `outcome` says what was chosen.
RatingsModel fit_on_all(const RatingsConfig& config, const RatingsOutcome& outcome, const Ratings& all,
                        const RatingsCallbacks& callbacks);

/// A fold's outcome, scored on what it held out.
struct FoldScores {
  RatingsCandidate chosen;
  bool low_rank_helps = false;
  int64_t sweeps = 0;
  RatingsScores scores;
};

/// Chooses on each fold's training part alone and scores the held-out part.
std::vector<FoldScores> cross_validate(const RatingsConfig& config, const Ratings& ratings,
                                       const RatingsCallbacks& callbacks);

/// All three models on the same ratings, and the recommendations of the biases and of the chosen model, without what is
/// in `known`.
RatingsScores score_ratings(const RatingsConfig& config, const RatingsOutcome& outcome, const Ratings& ratings,
                            const Ratings& known);

/// How a candidate is fitted (all solvers but chain).
FactorOptions factor_options(const RatingsConfig& config, const RatingsCandidate& candidate);

/// {"rmse", "mae"} and, where they were asked for, {"precision@10", "recall@10", "ndcg@10", "map@10", "coverage@10"}.
nlohmann::ordered_json errors_json(const RatingErrors& errors);

}  // namespace deeplora
