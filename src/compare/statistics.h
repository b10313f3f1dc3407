// What a comparison over seeds needs: means, Student's t, paired differences, several tests at once. Equal to SciPy's; free of
// LibTorch.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace deeplora {

/// Sample mean and standard deviation (n - 1 in the denominator); NaN where there are too few values or one is NaN.
struct Summary {
  size_t n = 0;
  double mean = 0, sd = 0;
};
Summary summarize(std::span<const double> values);

/// P(T <= t) of Student's t distribution; dof > 0. Through the regularised incomplete beta function (DLMF 8.17.22).
double student_t_cdf(double t, double dof);
/// The t with P(T <= t) = p; p in (0, 1), dof > 0. Throws std::invalid_argument beyond.
double student_t_quantile(double p, double dof);
/// P(|T| >= |t|), exact for tiny values too.
double student_t_two_sided(double t, double dof);
/// Regularised incomplete beta function I_x(a, b); x in [0, 1], a and b > 0.
double incomplete_beta(double a, double b, double x);

/// a - b, pair by pair: mean, standard deviation, confidence interval and two-sided p of the paired t test.
/// With fewer than two pairs interval and p are NaN. Pairs that all differ by the same amount have an interval of no width.
struct PairedDifference {
  size_t pairs = 0, higher = 0, lower = 0, equal = 0;  ///< a above b, below, the same
  double mean = 0, sd = 0, low = 0, high = 0, p = 0;
};
PairedDifference paired_difference(std::span<const double> a, std::span<const double> b, double confidence = 0.95);

/// P values adjusted for being one family of tests (Holm 1979): each at most alpha exactly when Holm's step-down test rejects
/// at alpha. NaN entries stay NaN and count for nothing.
std::vector<double> holm_adjusted(std::span<const double> p);

}  // namespace deeplora
