// The keys of `completion` that are about ratings. Free of LibTorch.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/config.h"
#include "ratings/ratings_reader.h"

namespace deeplora {

/// One point of the grid.
struct RatingsCandidate {
  std::string solver = "bayes";  ///< bayes, gibbs, als or chain
  int64_t rank = 8;
  int64_t depth = 2;  ///< factors of the chain; 2 for all but chain
  std::optional<double>
      regularization;        ///< als: penalty; bayes, gibbs: factor on the learned ones; chain: weight decay
  std::string name() const;  ///< "bayes rank 8", "chain depth 3 rank 8 regularization 0.01"
};

struct RatingsConfig {
  std::filesystem::path train, dev, test;
  RatingsFormat format;
  Duplicates duplicates = Duplicates::last;
  std::optional<std::pair<double, double>> range;
  OutOfRange out_of_range = OutOfRange::error;
  std::string split = "random";
  double dev_share = 0.1, test_share = 0;
  int64_t folds = 0;
  bool biases = true;
  std::optional<double> row_bias_penalty, col_bias_penalty;
  bool weighted = false, on_product = false;
  std::string implicit = "none";
  double implicit_regularization = 3;
  int64_t sweeps = 100, patience = 8;
  int64_t burn_in = 60, draws = 50, thin = 4;  ///< gibbs
  bool ordinal = false;                        ///< gibbs
  double row_period = 0, col_period = 0;       ///< bayes, gibbs: in the times' unit; 0: no effects of periods
  int64_t update_sweeps = 10;                  ///< bayes, als: passes when ratings are added to a run
  int64_t ranking_at = 10;                     ///< places that recommendations are scored at; 0: not scored
  std::optional<double> ranking_relevant;      ///< least rating that counts as relevant; absent: the mean of train
  bool refit_on_dev = true;                    ///< what is chosen is fitted again on train and dev, then scored on test
  bool refit_all = false;                      ///< and once more on everything, after that
  std::vector<RatingsCandidate> grid;          ///< at least one
  uint64_t seed = 1;
  int threads = 1;

  bool all_solvers_are(const std::vector<std::string>& names) const;

  /// Reads these keys, recording mistakes on the configuration. `rank`, `depth`, `seed` and `threads` (at least 1) are
  /// the section's own, read by others.
  static RatingsConfig read(const Config& completion, int64_t rank, int64_t depth, int64_t seed, int64_t threads);
};

}  // namespace deeplora
