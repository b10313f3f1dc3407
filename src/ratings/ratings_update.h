// Ratings added to a finished run: its fit goes on from where it stood. Free of LibTorch.
#pragma once

#include <functional>

#include "ratings/ratings_file.h"
#include "ratings/ratings_run.h"

namespace deeplora {

struct RatingsUpdate {
  RatingsModel model;
  Ratings
      all;  ///< what the run knew of (files of dev and test included) and what was given; old ids keep their numbers
  int64_t given = 0, replaced = 0;  ///< ratings of the file; those whose pair was known already
  int64_t new_rows = 0, new_cols = 0;
  int64_t sweeps = 0;  ///< made now; 0: the biases alone, fitted anew
  std::vector<std::string> remarks;
};

/// `run` goes on, as `chosen` was fitted, on all its ratings and `given` for config.update_sweeps passes (gibbs: these,
/// then draws as in training, which replace the old ones). A fit of biases alone is made anew. Throws Error for the
/// chain solver and for a run without a state (made before there was one).
RatingsUpdate update_ratings(const NamedRatingsModel& run, const Ratings& given, const RatingsConfig& config,
                             const RatingsCandidate& chosen, const std::function<void()>& pulse = {});

}  // namespace deeplora
