// Deep factor chains on ratings: the biases first, the chain on what they leave, ended by held-out ratings.
#pragma once

#include "completion/config.h"
#include "ratings/ratings_run.h"

namespace deeplora {

/// Fits a chain (candidate.depth factors, inner width by the method, candidate.regularization as weight decay) to the
/// standardised residuals of `biases` by `common.fit`'s optimizer. With `dev`, scores it every eval_every iterations
/// and keeps the best point until `patience` evaluations bring no gain; without, runs exactly `iterations`. The model
/// holds the halves of the chain; folding in takes a row's bias first, then its factors under the weight decay where
/// the halves have converged under one, else under the penalties that the spread of the halves implies. `pulse` is
/// called at every iteration.
RatingsFit fit_rating_chain(const Ratings& train, const Ratings* dev, const RatingsModel& biases,
                            const RatingsCandidate& candidate, int64_t iterations, const CompletionConfig& common,
                            int64_t patience, const std::function<void()>& pulse = {});

}  // namespace deeplora
