#include "tasks/retrieval_scores.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace deeplora {
namespace {

double gain(size_t place) { return 1.0 / std::log2(static_cast<double>(place) + 1); }

double share_within(const std::vector<size_t>& places, size_t most) {
  const auto within = std::upper_bound(places.begin(), places.end(), most) - places.begin();
  return static_cast<double>(within) / static_cast<double>(places.size());
}

double ndcg(const std::vector<size_t>& places, size_t most) {
  double found = 0, best = 0;
  for (const size_t place : places) found += place <= most ? gain(place) : 0.0;
  for (size_t place = 1; place <= std::min(places.size(), most); ++place) best += gain(place);
  return found / best;
}

double average_precision(const std::vector<size_t>& places, size_t most) {
  double sum = 0;
  for (size_t i = 0; i < places.size() && places[i] <= most; ++i)
    sum += static_cast<double>(i + 1) / static_cast<double>(places[i]);
  return sum / static_cast<double>(std::min(places.size(), most));
}

}  // namespace

RetrievalScores retrieval_scores(std::vector<std::vector<size_t>> places) {
  RetrievalScores sums;
  for (auto& one : places) {
    std::sort(one.begin(), one.end());
    if (one.empty() || one.front() == 0)
      throw std::invalid_argument("retrieval_scores: every query needs places from 1");
    sums.mrr_10 += one.front() <= 10 ? 1.0 / static_cast<double>(one.front()) : 0.0;
    sums.ndcg_10 += ndcg(one, 10);
    sums.recall_1 += share_within(one, 1);
    sums.recall_10 += share_within(one, 10);
    sums.map_100 += average_precision(one, 100);
  }
  const double queries = places.empty() ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(places.size());
  return {sums.mrr_10 / queries, sums.ndcg_10 / queries, sums.recall_1 / queries, sums.recall_10 / queries,
          sums.map_100 / queries};
}

std::vector<size_t> places_of(const double* scores, size_t candidates, const std::vector<size_t>& relevant) {
  std::vector<size_t> out;
  for (const size_t wanted : relevant) {
    const double score = scores[wanted];
    size_t before = 0;
    for (size_t i = 0; i < candidates; ++i) before += scores[i] > score || (scores[i] == score && i < wanted);
    out.push_back(before + 1);
  }
  return out;
}

}  // namespace deeplora
