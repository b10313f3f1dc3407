#include "ratings/top_scores.h"

#include <algorithm>
#include <cmath>

#include "ratings/sparse_side.h"

namespace deeplora {
namespace {

/// Adds the scores of one row: its best columns in order, and those that are relevant.
void add_row(const std::vector<Scored>& best, const std::vector<int32_t>& relevant, TopScores& out) {
  double found = 0, gain = 0, ideal = 0, precisions = 0;
  for (size_t place = 0; place < best.size(); ++place) {
    if (std::find(relevant.begin(), relevant.end(), best[place].col) == relevant.end()) continue;
    gain += 1 / std::log2(static_cast<double>(place) + 2);
    precisions += ++found / (static_cast<double>(place) + 1);
  }
  const size_t at_best = std::min(relevant.size(), static_cast<size_t>(out.k));
  for (size_t place = 0; place < at_best; ++place) ideal += 1 / std::log2(static_cast<double>(place) + 2);
  const double count = static_cast<double>(relevant.size());
  out.precision += found / static_cast<double>(out.k);
  out.recall += found / count;
  out.ndcg += gain / ideal;
  out.map += precisions / count;
  ++out.rows;
}

std::vector<int32_t> list_of(const SparseSide& side, size_t i) {
  return {side.other.begin() + side.begin[i], side.other.begin() + side.begin[i + 1]};
}

Ratings of_known_rows(const Ratings& ratings, double least) {
  std::vector<int64_t> which;
  for (size_t e = 0; e < ratings.value.size(); ++e)
    if (ratings.row[e] >= 0 && ratings.value[e] >= least) which.push_back(static_cast<int64_t>(e));
  return ratings.subset(which);
}

}  // namespace

std::optional<TopScores> top_scores(const RatingsModel& model, const Ratings& test, const Ratings& known, int64_t k,
                                    double relevant, int threads) {
  const Ratings good = of_known_rows(test, relevant), seen = of_known_rows(known, -HUGE_VAL);
  const SparseSide wanted = SparseSide::make(model.rows, good.row, good.col, good.value),
                   rated = SparseSide::make(model.rows, seen.row, seen.col, seen.value);
  std::vector<std::vector<Scored>> best(static_cast<size_t>(model.rows));
  for_parts(wanted, threads, [&](int64_t begin, int64_t end, int) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      if (wanted.count(static_cast<int64_t>(i)) > 0)
        best[i] = top_n(model, coordinates_of(model, static_cast<int64_t>(i)), list_of(rated, i), k);
  });
  TopScores out{.k = k, .relevant = relevant};
  std::vector<char> shown(static_cast<size_t>(model.cols), 0);
  for (size_t i = 0; i < best.size(); ++i) {
    if (wanted.count(static_cast<int64_t>(i)) == 0) continue;
    add_row(best[i], list_of(wanted, i), out);
    for (const Scored& scored : best[i]) shown[static_cast<size_t>(scored.col)] = 1;
  }
  if (out.rows == 0) return std::nullopt;
  for (double* score : {&out.precision, &out.recall, &out.ndcg, &out.map}) *score /= static_cast<double>(out.rows);
  out.coverage = static_cast<double>(std::count(shown.begin(), shown.end(), 1)) / static_cast<double>(model.cols);
  return out;
}

}  // namespace deeplora
