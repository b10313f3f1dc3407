#include "tasks/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <stdexcept>
#include <string_view>

#include "core/error.h"

namespace deeplora {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

void same_length(size_t predicted, size_t expected) {
  if (predicted != expected)
    throw std::invalid_argument(cat("a metric got ", predicted, " predictions for ", expected, " expected values"));
}

struct ClassCounts {
  double predicted = 0, expected = 0, both = 0;
  double f1() const { return predicted + expected > 0 ? 2 * both / (predicted + expected) : kUndefined; }
};

std::map<int64_t, ClassCounts> count_classes(std::span<const int64_t> predicted, std::span<const int64_t> expected) {
  same_length(predicted.size(), expected.size());
  std::map<int64_t, ClassCounts> counts;
  for (size_t i = 0; i < predicted.size(); ++i) {
    ++counts[predicted[i]].predicted;
    ++counts[expected[i]].expected;
    if (predicted[i] == expected[i]) ++counts[predicted[i]].both;
  }
  return counts;
}

/// Deviations from the mean, scaled to largest absolute value 1 so that squares neither overflow nor vanish;
/// empty when they are all zero or not finite.
std::vector<double> scaled_deviations(std::span<const double> values) {
  // Compared exactly: the rounded mean of equal values may differ from them and fake a deviation.
  if (std::all_of(values.begin(), values.end(), [&](double v) { return v == values.front(); })) return {};
  double mean = 0;
  for (const double v : values) mean += v / static_cast<double>(values.size());
  std::vector<double> out;
  double largest = 0;
  for (const double v : values) {
    out.push_back(v - mean);
    largest = std::max(largest, std::abs(out.back()));
    if (!std::isfinite(out.back())) return {};
  }
  if (largest == 0) return {};
  for (double& d : out) d /= largest;
  return out;
}

template <class Term>
double mean_of(std::span<const double> predicted, std::span<const double> expected, Term term) {
  same_length(predicted.size(), expected.size());
  double sum = 0;
  for (size_t i = 0; i < predicted.size(); ++i) sum += term(predicted[i] - expected[i]);
  return predicted.empty() ? kUndefined : sum / static_cast<double>(predicted.size());
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  const size_t first = text.find_first_not_of(kSpace);
  return first == std::string_view::npos ? std::string_view{}
                                         : text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

}  // namespace

double accuracy(std::span<const int64_t> predicted, std::span<const int64_t> expected) {
  same_length(predicted.size(), expected.size());
  double equal = 0;
  for (size_t i = 0; i < predicted.size(); ++i) equal += predicted[i] == expected[i] ? 1 : 0;
  return predicted.empty() ? kUndefined : equal / static_cast<double>(predicted.size());
}

double f1_of_class(std::span<const int64_t> predicted, std::span<const int64_t> expected, int64_t positive) {
  return count_classes(predicted, expected)[positive].f1();
}

double BinaryCounts::score(const std::string& metric) const {
  const double predicted = true_positive + false_positive, expected = true_positive + false_negative;
  const double all = predicted + false_negative + true_negative;
  if (metric == "accuracy") return all > 0 ? (true_positive + true_negative) / all : kUndefined;
  if (metric == "f1") return ClassCounts{predicted, expected, true_positive}.f1();
  if (metric != "matthews") throw std::invalid_argument("no score of two classes: " + metric);
  const double spread = predicted * expected * (all - predicted) * (all - expected);
  return spread == 0 ? 0 : (true_positive * true_negative - false_positive * false_negative) / std::sqrt(spread);
}

double best_threshold(std::span<const double> probabilities, const std::vector<bool>& positive,
                      const std::string& metric) {
  same_length(probabilities.size(), positive.size());
  std::vector<size_t> order(probabilities.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return probabilities[a] < probabilities[b]; });
  BinaryCounts counts;  // at a threshold below all: everything is positive
  for (const bool is : positive) ++(is ? counts.true_positive : counts.false_positive);
  double best = 0.5, best_score = -std::numeric_limits<double>::infinity();
  const auto consider = [&](double threshold) {
    const double score = counts.score(metric);
    const bool nearer = score == best_score && std::abs(threshold - 0.5) < std::abs(best - 0.5);
    if (score > best_score || nearer) {
      best = threshold;
      best_score = score;
    }
  };
  double below = 0;
  for (size_t i = 0; i <= order.size(); ++i) {
    const double here = i < order.size() ? probabilities[order[i]] : 1.0;
    if (i == 0 || here > below) consider(below < 0.5 && here >= 0.5 ? 0.5 : 0.5 * (below + here));
    if (i == order.size()) break;
    const bool is = positive[order[i]];
    --(is ? counts.true_positive : counts.false_positive);
    ++(is ? counts.false_negative : counts.true_negative);
    below = here;
  }
  return best;
}

double f1_macro(std::span<const int64_t> predicted, std::span<const int64_t> expected) {
  const auto counts = count_classes(predicted, expected);
  double sum = 0;
  for (const auto& [label, count] : counts) sum += count.f1();
  return counts.empty() ? kUndefined : sum / static_cast<double>(counts.size());
}

double f1_weighted(std::span<const int64_t> predicted, std::span<const int64_t> expected) {
  const auto counts = count_classes(predicted, expected);
  double sum = 0;
  for (const auto& [label, count] : counts) sum += count.expected * count.f1();
  return counts.empty() ? kUndefined : sum / static_cast<double>(predicted.size());
}

double matthews(std::span<const int64_t> predicted, std::span<const int64_t> expected) {
  const auto counts = count_classes(predicted, expected);
  if (counts.empty()) return kUndefined;
  const auto n = static_cast<double>(predicted.size());
  double both = 0, cross = 0, predicted_squares = 0, expected_squares = 0;
  for (const auto& [label, count] : counts) {
    both += count.both;
    cross += count.predicted * count.expected;
    predicted_squares += count.predicted * count.predicted;
    expected_squares += count.expected * count.expected;
  }
  const double spread = (n * n - predicted_squares) * (n * n - expected_squares);
  return spread == 0 ? 0 : (n * both - cross) / std::sqrt(spread);
}

double pearson(std::span<const double> predicted, std::span<const double> expected) {
  same_length(predicted.size(), expected.size());
  if (predicted.size() < 2) return kUndefined;
  const auto x = scaled_deviations(predicted), y = scaled_deviations(expected);
  if (x.empty() || y.empty()) return kUndefined;
  const double xy = std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
  const double xx = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
  const double yy = std::inner_product(y.begin(), y.end(), y.begin(), 0.0);
  return std::clamp(xy / (std::sqrt(xx) * std::sqrt(yy)), -1.0, 1.0);
}

std::vector<double> average_ranks(std::span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    // Places begin + 1 ... end share their mean.
    for (size_t i = begin; i < end; ++i) ranks[order[i]] = 0.5 * static_cast<double>(begin + 1 + end);
  }
  return ranks;
}

double spearman(std::span<const double> predicted, std::span<const double> expected) {
  same_length(predicted.size(), expected.size());
  const auto has_nan = [](std::span<const double> values) {
    return std::any_of(values.begin(), values.end(), [](double v) { return std::isnan(v); });
  };
  if (has_nan(predicted) || has_nan(expected)) return kUndefined;  // what cannot be ordered has no rank
  return pearson(average_ranks(predicted), average_ranks(expected));
}

double mean_squared_error(std::span<const double> predicted, std::span<const double> expected) {
  return mean_of(predicted, expected, [](double d) { return d * d; });
}

double root_mean_squared_error(std::span<const double> predicted, std::span<const double> expected) {
  return std::sqrt(mean_squared_error(predicted, expected));
}

double mean_absolute_error(std::span<const double> predicted, std::span<const double> expected) {
  return mean_of(predicted, expected, [](double d) { return std::abs(d); });
}

double exact_match(std::span<const std::string> predicted, std::span<const std::vector<std::string>> references) {
  same_length(predicted.size(), references.size());
  double equal = 0;
  for (size_t i = 0; i < predicted.size(); ++i)
    equal += std::any_of(references[i].begin(), references[i].end(),
                         [&](const std::string& reference) { return trimmed(reference) == trimmed(predicted[i]); })
                 ? 1
                 : 0;
  return predicted.empty() ? kUndefined : equal / static_cast<double>(predicted.size());
}

}  // namespace deeplora
