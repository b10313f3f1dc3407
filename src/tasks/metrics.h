// Scores of predictions against expected values, equal to scikit-learn's and SciPy's. Free of LibTorch.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace deeplora {

// Every function takes N predictions and N expected values and throws std::invalid_argument when the lengths
// differ. An undefined score is NaN, never a made-up number: the caller says so. With N = 0 every score is
// NaN.

/// Share of equal entries.
double accuracy(std::span<const int64_t> predicted, std::span<const int64_t> expected);

/// 2 TP / (2 TP + FP + FN) of one class; NaN when the class occurs on neither side.
double f1_of_class(std::span<const int64_t> predicted, std::span<const int64_t> expected, int64_t positive = 1);

/// Outcomes of a decision between two classes.
struct BinaryCounts {
  double true_positive = 0, false_positive = 0, false_negative = 0, true_negative = 0;

  /// accuracy, f1 (of the positive class) or matthews; as the functions of those names give it.
  double score(const std::string& metric) const;
};

/// The threshold t at which "positive where p >= t" scores best by `metric`, for N probabilities of the positive class
/// and whether each row is positive: of the midpoints between neighbouring probabilities, and 0.5 itself, the one
/// nearest to 0.5 among the best.
double best_threshold(std::span<const double> probabilities, const std::vector<bool>& positive,
                      const std::string& metric);

/// Mean of f1_of_class over the classes that occur on either side.
double f1_macro(std::span<const int64_t> predicted, std::span<const int64_t> expected);

/// The same mean, weighted with how often each class is expected.
double f1_weighted(std::span<const int64_t> predicted, std::span<const int64_t> expected);

/// Matthews correlation for any number of classes (Gorodkin 2004). 0 when either side holds a single class:
/// its value by convention, "no better than chance", as in scikit-learn and GLUE.
double matthews(std::span<const int64_t> predicted, std::span<const int64_t> expected);

/// Pearson correlation; NaN when either side is constant, holds a NaN or has fewer than two entries.
double pearson(std::span<const double> predicted, std::span<const double> expected);

/// Pearson correlation of the ranks, ties sharing their average rank; NaN as for pearson().
double spearman(std::span<const double> predicted, std::span<const double> expected);

double mean_squared_error(std::span<const double> predicted, std::span<const double> expected);
double root_mean_squared_error(std::span<const double> predicted, std::span<const double> expected);
double mean_absolute_error(std::span<const double> predicted, std::span<const double> expected);

/// Share of texts equal to one of their references (N lists), white space at both ends aside.
double exact_match(std::span<const std::string> predicted, std::span<const std::vector<std::string>> references);

/// Ranks from 1, ties sharing their average rank (SciPy's rankdata).
std::vector<double> average_ranks(std::span<const double> values);

}  // namespace deeplora
