// What a comparison over seeds needs: means, Student's t, paired differences, several tests at once. Equal to SciPy's;
// free of LibTorch.
#pragma once

#include <cstddef>
#include <optional>
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
///
/// `step` is the score's smallest step (1/n for the accuracy over n test rows; 0 for a score without steps). Its square
/// is added to the variance of the differences: coarse scores agree, or nearly agree, over a few seeds by chance, and
/// the spread that is then seen says nothing. With step 0 this is the plain test. With fewer than two pairs, or
/// differences that are all the same and not zero, interval and p are NaN.
struct PairedDifference {
  size_t pairs = 0, higher = 0, lower = 0, equal = 0;  ///< a above b, below, the same
  double mean = 0, sd = 0;                             ///< of the differences as they are
  double low = 0, high = 0, p = 0;
  double step = 0;
  bool no_spread = false;  ///< two pairs or more, all with the same difference, which is not zero
};
PairedDifference paired_difference(std::span<const double> a, std::span<const double> b, double step = 0,
                                   double confidence = 0.95);

/// P values adjusted for being one family of tests (Holm 1979): each at most alpha exactly when Holm's step-down test
/// rejects at alpha. NaN entries stay NaN and count for nothing.
std::vector<double> holm_adjusted(std::span<const double> p);

/// holm_adjusted() for the differences of one table. A difference without spread counts as a comparison, whose p is
/// unknown: the others must not gain by it. Absent entries and those with fewer than two pairs count for nothing. NaN
/// where p is NaN.
std::vector<double> holm_adjusted(std::span<const std::optional<PairedDifference>> differences);

/// A difference is shown when its adjusted p is below this.
constexpr double kLevel = 0.05;

}  // namespace deeplora
