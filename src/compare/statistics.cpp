#include "compare/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <stdexcept>
#include <utility>

namespace deeplora {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// The continued fraction of I_x(a, b), by Lentz's method as modified by Thompson and Barnett (1986). Converges quickly
/// for x < (a + 1) / (a + b + 2).
double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  const auto nonzero = [](double v) { return std::abs(v) < kTiny ? kTiny : v; };
  double c = 1, d = 1 / nonzero(1 - (a + b) * x / (a + 1)), value = d;
  for (int m = 1; m <= 10000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / nonzero(1 + even * d);
    c = nonzero(1 + even / c);
    value *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / nonzero(1 + odd * d);
    c = nonzero(1 + odd / c);
    const double change = d * c;
    value *= change;
    if (std::abs(change - 1) < 1e-16) break;
  }
  return value;
}

/// I_x(a, b) with y = 1 - x given apart: where x is nearly 1, subtracting would lose y's digits.
double incomplete_beta_of(double a, double b, double x, double y) {
  if (x <= 0) return 0;
  if (y <= 0) return 1;
  const double front =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log(y));
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
  return 1 - front * beta_fraction(b, a, y) / b;
}

/// The t that the interval reaches. A table asks for the same few again and again.
double critical_value(double confidence, size_t dof) {
  thread_local std::map<std::pair<double, size_t>, double> known;
  const auto [at, added] = known.emplace(std::pair(confidence, dof), 0.0);
  if (added) at->second = student_t_quantile((1 + confidence) / 2, static_cast<double>(dof));
  return at->second;
}

/// Differences that rounding alone keeps apart are the same.
bool all_the_same(std::span<const double> differences, std::span<const double> a, std::span<const double> b) {
  double largest = 0;
  for (const auto& scores : {a, b})
    for (const double score : scores) largest = std::max(largest, std::abs(score));
  const auto [low, high] = std::minmax_element(differences.begin(), differences.end());
  return *high - *low <= 1e-12 * largest;
}

void require_dof(double dof) {
  if (!(dof > 0)) throw std::invalid_argument("Student's t needs more than 0 degrees of freedom");
}

}  // namespace

Summary summarize(std::span<const double> values) {
  Summary out{values.size(), kNaN, kNaN};
  if (values.empty()) return out;
  const auto n = static_cast<double>(values.size());
  out.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  if (values.size() < 2) return out;
  double squares = 0;
  for (const double v : values) squares += (v - out.mean) * (v - out.mean);
  out.sd = std::sqrt(squares / (n - 1));
  return out;
}

double incomplete_beta(double a, double b, double x) { return incomplete_beta_of(a, b, x, 1 - x); }

double student_t_two_sided(double t, double dof) {
  require_dof(dof);
  if (std::isnan(t)) return kNaN;
  if (std::isinf(t)) return 0;
  const double square = t * t;
  return incomplete_beta_of(dof / 2, 0.5, dof / (dof + square), square / (dof + square));
}

double student_t_cdf(double t, double dof) {
  const double both = student_t_two_sided(t, dof);
  return t > 0 ? 1 - both / 2 : both / 2;
}

double student_t_quantile(double p, double dof) {
  require_dof(dof);
  if (!(p > 0 && p < 1)) throw std::invalid_argument("a quantile needs a probability between 0 and 1");
  if (p == 0.5) return 0;
  if (p < 0.5) return -student_t_quantile(1 - p, dof);
  // P(|T| >= t) falls in t: the bracket is doubled until it holds the root, then halved down to neighbouring numbers.
  const double wanted = 2 * (1 - p);
  double low = 0, high = 1;
  while (student_t_two_sided(high, dof) > wanted) low = high, high *= 2;
  for (int i = 0; i < 200; ++i) {
    const double middle = (low + high) / 2;
    if (middle <= low || middle >= high) break;
    (student_t_two_sided(middle, dof) > wanted ? low : high) = middle;
  }
  return (low + high) / 2;
}

PairedDifference paired_difference(std::span<const double> a, std::span<const double> b, double step,
                                   double confidence) {
  if (a.size() != b.size()) throw std::invalid_argument("paired values must have equal numbers");
  std::vector<double> differences;
  differences.reserve(a.size());
  PairedDifference out{.low = kNaN, .high = kNaN, .p = kNaN, .step = step};
  for (size_t i = 0; i < a.size(); ++i) {
    differences.push_back(a[i] - b[i]);
    out.higher += a[i] > b[i];
    out.lower += a[i] < b[i];
    out.equal += a[i] == b[i];
  }
  const Summary summary = summarize(differences);
  out.pairs = summary.n;
  out.mean = summary.mean;
  out.sd = summary.sd;
  if (summary.n < 2 || !std::isfinite(summary.sd)) return out;
  out.no_spread = out.equal < out.pairs && all_the_same(differences, a, b);
  if (out.no_spread) {
    out.sd = 0;
    return out;
  }
  const auto n = static_cast<double>(summary.n);
  const double error = std::hypot(summary.sd, step) / std::sqrt(n),
               half = critical_value(confidence, summary.n - 1) * error;
  out.low = out.mean - half;
  out.high = out.mean + half;
  out.p = out.equal == out.pairs ? 1 : student_t_two_sided(out.mean / error, n - 1);
  return out;
}

std::vector<double> holm_adjusted(std::span<const double> p) {
  std::vector<double> out(p.begin(), p.end());
  std::vector<size_t> order;
  for (size_t i = 0; i < p.size(); ++i)
    if (!std::isnan(p[i])) order.push_back(i);
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) { return p[i] < p[j]; });
  double largest = 0;
  for (size_t k = 0; k < order.size(); ++k) {
    largest = std::max(largest, std::min(1.0, static_cast<double>(order.size() - k) * p[order[k]]));
    out[order[k]] = largest;
  }
  return out;
}

std::vector<double> holm_adjusted(std::span<const std::optional<PairedDifference>> differences) {
  std::vector<double> p;
  for (const auto& difference : differences)
    p.push_back(!difference ? kNaN : difference->no_spread ? 1 : difference->p);
  std::vector<double> out = holm_adjusted(p);
  for (size_t i = 0; i < out.size(); ++i)
    if (differences[i] && differences[i]->no_spread) out[i] = kNaN;
  return out;
}

}  // namespace deeplora
