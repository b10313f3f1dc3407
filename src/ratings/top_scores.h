// Scores of recommendations. Free of LibTorch.
#pragma once

#include "ratings/ratings_model.h"

namespace deeplora {

/// Scores the k best columns of every row of `test` that has a rating of at least `relevant`, without the columns that
/// it has in `known`; both numbered as the model is, -1: unknown. Relevant columns that the model does not know count
/// as missed; rows that it does not know are left out. Equal to trec_eval's P, recall, ndcg_cut and map_cut. Nothing
/// when no row is left.
std::optional<TopScores> top_scores(const RatingsModel& model, const Ratings& test, const Ratings& known, int64_t k,
                                    double relevant, int threads = 1);

}  // namespace deeplora
