#include "tasks/ranking_metrics.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace deeplora {
namespace {

constexpr size_t kCut = 10;

double discounted_gain(const std::vector<double>& relevances) {
  double out = 0;
  for (size_t i = 0; i < std::min(kCut, relevances.size()); ++i)
    out += relevances[i] / std::log2(static_cast<double>(i) + 2);
  return out;
}

/// Adds the scores of one query, relevances in the order of the texts' places.
void add_query(const std::vector<double>& relevances, RankingScores& out) {
  double found = 0, precisions = 0;
  for (size_t i = 0; i < relevances.size(); ++i) {
    if (relevances[i] <= 0) continue;
    const auto place = static_cast<double>(i) + 1;
    if (found == 0 && i < kCut) out.mrr_at_10 += 1 / place;
    precisions += ++found / place;
  }
  if (found == 0) {
    ++out.without_relevant;
    return;
  }
  std::vector<double> ideal = relevances;
  std::sort(ideal.begin(), ideal.end(), std::greater<>());
  out.map += precisions / found;
  out.ndcg_at_10 += discounted_gain(relevances) / discounted_gain(ideal);
}

}  // namespace

RankingScores ranking_scores(std::vector<std::vector<RankedText>> queries) {
  RankingScores out;
  for (auto& texts : queries) {
    std::sort(texts.begin(), texts.end(), [](const RankedText& a, const RankedText& b) {
      return a.score != b.score ? a.score > b.score : a.relevance < b.relevance;
    });
    std::vector<double> relevances;
    for (const auto& text : texts) relevances.push_back(text.relevance);
    add_query(relevances, out);
    ++out.queries;
  }
  const double count = queries.empty() ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(queries.size());
  for (double* score : {&out.mrr_at_10, &out.ndcg_at_10, &out.map}) *score /= count;
  return out;
}

}  // namespace deeplora
