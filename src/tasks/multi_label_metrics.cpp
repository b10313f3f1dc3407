#include "tasks/multi_label_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>

namespace deeplora {
namespace {

/// Scores closer than rounding are one.
constexpr double kSame = 1e-12;

double ratio_or_nan(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

LabelTally::LabelTally(const LabelTable& predicted, const LabelTable& expected)
    : expected_(expected), predicted_(predicted), wrong_(expected.size()) {
  const size_t labels = expected.empty() ? 0 : expected.front().size();
  const auto fits = [&](const std::vector<char>& row) { return row.size() == labels; };
  if (predicted.size() != expected.size() || !std::all_of(predicted.begin(), predicted.end(), fits) ||
      !std::all_of(expected.begin(), expected.end(), fits))
    throw std::invalid_argument("scores of labels: tables of different shapes");
  labels_.resize(labels);
  for (size_t i = 0; i < expected.size(); ++i) {
    for (size_t c = 0; c < labels; ++c) {
      const bool is = predicted[i][c] != 0, should = expected[i][c] != 0;
      for (LabelCounts* counts : {&labels_[c], &all_}) {
        counts->predicted += is;
        counts->expected += should;
        counts->both += is && should;
      }
      wrong_[i] += is != should;
    }
    right_rows_ += wrong_[i] == 0;
  }
}

void LabelTally::turn(size_t row, size_t label) {
  const bool now = predicted_[row][label] == 0, should = expected_[row][label] != 0;
  predicted_[row][label] = now ? 1 : 0;
  const int64_t change = now ? 1 : -1;
  for (LabelCounts* counts : {&labels_[label], &all_}) {
    counts->predicted += change;
    if (should) counts->both += change;
  }
  right_rows_ -= wrong_[row] == 0;
  wrong_[row] += now == should ? -1 : 1;
  right_rows_ += wrong_[row] == 0;
}

double LabelTally::macro_f1() const {
  double sum = 0;
  for (const auto& counts : labels_) sum += counts.f1();
  return labels_.empty() ? 0 : sum / static_cast<double>(labels_.size());
}

double LabelTally::subset_accuracy() const { return ratio_or_nan(right_rows_, static_cast<int64_t>(wrong_.size())); }

double LabelTally::score(const std::string& metric) const {
  if (metric == "micro_f1") return micro_f1();
  if (metric == "macro_f1") return macro_f1();
  if (metric != "subset_accuracy") throw std::invalid_argument("no score of labels: " + metric);
  return subset_accuracy();
}

std::vector<LabelScores> LabelTally::per_label() const {
  std::vector<LabelScores> out;
  for (const auto& counts : labels_)
    out.push_back({ratio_or_nan(counts.both, counts.predicted), ratio_or_nan(counts.both, counts.expected),
                   ratio_or_nan(2 * counts.both, counts.predicted + counts.expected), counts.expected});
  return out;
}

double average_precision(std::span<const double> scores, const std::vector<bool>& relevant) {
  if (scores.size() != relevant.size()) throw std::invalid_argument("average precision: lengths differ");
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  double sum = 0, found = 0;
  for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    double here = 0;
    while (end < order.size() && scores[order[end]] == scores[order[begin]]) here += relevant[order[end++]] ? 1 : 0;
    found += here;
    sum += here * found / static_cast<double>(end);
  }
  return found > 0 ? sum / found : 0;
}

double mean_average_precision(const std::vector<std::vector<double>>& scores, const LabelTable& expected) {
  if (expected.empty() || expected.front().empty()) return std::numeric_limits<double>::quiet_NaN();
  const size_t labels = expected.front().size();
  double sum = 0;
  std::vector<double> column(expected.size());
  std::vector<bool> relevant(expected.size());
  for (size_t c = 0; c < labels; ++c) {
    for (size_t i = 0; i < expected.size(); ++i) {
      column[i] = scores.at(i).at(c);
      relevant[i] = expected[i][c] != 0;
    }
    sum += average_precision(column, relevant);
  }
  return sum / static_cast<double>(labels);
}

double best_label_threshold(const std::vector<std::vector<double>>& probabilities, const LabelTable& expected,
                            const std::string& metric) {
  struct Cell {
    double probability = 0;
    size_t row = 0, label = 0;
  };
  std::vector<Cell> cells;
  LabelTable all(expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    all[i].assign(expected[i].size(), 1);  // at a threshold below all probabilities
    for (size_t c = 0; c < expected[i].size(); ++c) cells.push_back({probabilities.at(i).at(c), i, c});
  }
  std::sort(cells.begin(), cells.end(), [](const Cell& a, const Cell& b) { return a.probability < b.probability; });
  LabelTally tally(all, expected);
  double best = 0.5, best_score = -std::numeric_limits<double>::infinity(), below = 0;
  const auto consider = [&](double threshold) {
    const double score = tally.score(metric);
    const bool nearer = std::abs(score - best_score) <= kSame && std::abs(threshold - 0.5) < std::abs(best - 0.5);
    if (score <= best_score + kSame && !nearer) return;
    best = threshold;
    best_score = std::max(score, best_score);
  };
  for (size_t i = 0; i <= cells.size(); ++i) {
    const double here = i < cells.size() ? cells[i].probability : 1.0;
    if (i == 0 || here > below) consider(below < 0.5 && here >= 0.5 ? 0.5 : 0.5 * (below + here));
    if (i == cells.size()) break;
    tally.turn(cells[i].row, cells[i].label);
    below = here;
  }
  return best;
}

}  // namespace deeplora
