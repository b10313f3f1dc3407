// Scores of texts that are put in order for queries, equal to trec_eval's and ranx's. Free of LibTorch.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace deeplora {

/// One text for a query: what the model says of it, and how relevant it is (0: not at all).
struct RankedText {
  double score = 0, relevance = 0;
};

/// Means over the queries; a query without any relevant text counts 0.
struct RankingScores {
  double mrr_at_10 = 0;   ///< 1 / place of the first relevant text, 0 beyond place 10
  double ndcg_at_10 = 0;  ///< gains are the relevances, discounted by log2(place + 1) (Jarvelin and Kekalainen 2002)
  double map = 0;         ///< mean over the relevant texts of the precision at their place
  size_t queries = 0, without_relevant = 0;
};

/// Of equal scores the less relevant text comes first, so that a model that tells nothing apart scores nothing by the
/// order of a file. NaN without queries.
RankingScores ranking_scores(std::vector<std::vector<RankedText>> queries);

}  // namespace deeplora
