// Scores of rankings, equal to those of sentence-transformers' InformationRetrievalEvaluator. Free of LibTorch.
#pragma once

#include <cstddef>
#include <vector>

namespace deeplora {

/// Means over the queries; NaN without any.
struct RetrievalScores {
  double mrr_10 = 0, ndcg_10 = 0, recall_1 = 0, recall_10 = 0, map_100 = 0;
};

/// For every query the places (from 1) of all its relevant texts in the ranking, in any order. Throws
/// std::invalid_argument for a query without a relevant text and for a place 0.
///
/// mrr@10: 1 / first place; ndcg@10: sum of 1 / log2(place + 1), over that of the best ranking; recall@k: share of the
/// relevant texts; map@100: mean over them (at most 100) of the precision at their places. Each from the first 1, 10 or
/// 100 places alone.
RetrievalScores retrieval_scores(std::vector<std::vector<size_t>> places);

/// Places of the candidates `relevant` where `scores` (one a candidate) rank them: higher first, of equals the earlier
/// candidate.
std::vector<size_t> places_of(const double* scores, size_t candidates, const std::vector<size_t>& relevant);

}  // namespace deeplora
