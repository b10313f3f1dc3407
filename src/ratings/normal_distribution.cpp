#include "ratings/normal_distribution.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace deeplora {
namespace {

template <size_t N>
double polynomial(const std::array<double, N>& c, double x) {
  double out = c[N - 1];
  for (size_t i = N - 1; i-- > 0;) out = out * x + c[i];
  return out;
}

constexpr std::array<double, 8> kMiddleTop{3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
                                           1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
                                           3.3430575583588128105e4, 2.5090809287301226727e3};
constexpr std::array<double, 8> kMiddleBottom{1.0,
                                              4.2313330701600911252e1,
                                              6.8718700749205790830e2,
                                              5.3941960214247511077e3,
                                              2.1213794301586595867e4,
                                              3.9307895800092710610e4,
                                              2.8729085735721942674e4,
                                              5.2264952788528545610e3};
constexpr std::array<double, 8> kNearTop{1.42343711074968357734e0,  4.63033784615654529590e0, 5.76949722146069140550e0,
                                         3.64784832476320460504e0,  1.27045825245236838258e0, 2.41780725177450611770e-1,
                                         2.27238449892691845833e-2, 7.74545014278341407640e-4};
constexpr std::array<double, 8> kNearBottom{1.0,
                                            2.05319162663775882187e0,
                                            1.67638483018380384940e0,
                                            6.89767334985100004550e-1,
                                            1.48103976427480074590e-1,
                                            1.51986665636164571966e-2,
                                            5.47593808499534494600e-4,
                                            1.05075007164441684324e-9};
constexpr std::array<double, 8> kFarTop{6.65790464350110377720e0,  5.46378491116411436990e0,  1.78482653991729133580e0,
                                        2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                        2.71155556874348757815e-5, 2.01033439929228813265e-7};
constexpr std::array<double, 8> kFarBottom{1.0,
                                           5.99832206555887937690e-1,
                                           1.36929880922735805310e-1,
                                           1.48753612908506148525e-2,
                                           7.86869131145613259100e-4,
                                           1.84631831751005468180e-5,
                                           1.42151175831644588870e-7,
                                           2.04426310338993978564e-15};

}  // namespace

double normal_quantile(double p) {
  const double q = p - 0.5;
  if (std::abs(q) <= 0.425) {
    const double r = 0.180625 - q * q;
    return q * polynomial(kMiddleTop, r) / polynomial(kMiddleBottom, r);
  }
  const double r = std::sqrt(-std::log(q < 0 ? p : 1 - p));
  const double size = r <= 5 ? polynomial(kNearTop, r - 1.6) / polynomial(kNearBottom, r - 1.6)
                             : polynomial(kFarTop, r - 5) / polynomial(kFarBottom, r - 5);
  return q < 0 ? -size : size;
}

double LowerTail::of(double mean, double x) const {
  if (!std::isfinite(x)) x = std::isfinite(b) ? b : a;
  x = std::clamp(x, a, b);
  return mean + (flipped ? -x : x);
}

double truncated_normal(double mean, double low, double high, PortableRandom& random) {
  const LowerTail tail(mean, low, high);
  const double below_a = normal_below(tail.a), below_b = normal_below(tail.b);
  const double p = below_a + random.inside() * (below_b - below_a);
  // So far out that both are one number: the nearer end.
  return tail.of(mean, p > 0 && p < 1 ? normal_quantile(p) : tail.b);
}

double truncated_mean(double mean, double low, double high) {
  const LowerTail tail(mean, low, high);
  const double mass = tail.mass();
  const auto density = [](double x) { return std::isfinite(x) ? normal_density(x) : 0.0; };
  return tail.of(mean, mass > 0 ? (density(tail.a) - density(tail.b)) / mass : tail.b);
}

double gamma_draw(double shape, PortableRandom& random) {
  if (shape < 1) {
    const double boosted = gamma_draw(shape + 1, random);
    return boosted * std::pow(random.inside(), 1 / shape);
  }
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = random.normal(), t = 1 + c * x;
    if (t <= 0) continue;
    const double v = t * t * t, u = random.inside();
    if (std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

}  // namespace deeplora
