// The normal distribution and draws from distributions made of it, the same with every standard library as far as
// erfc, log and exp are.
#pragma once

#include <cmath>
#include <initializer_list>

#include "ratings/portable_random.h"

namespace deeplora {

inline double normal_density(double x) { return 0.3989422804014327 * std::exp(-0.5 * x * x); }

/// P(N(0, 1) <= x).
inline double normal_below(double x) { return 0.5 * std::erfc(-x * 0.7071067811865476); }

/// An interval about N(mean, 1) as one about N(0, 1), turned over where it lies above the mean: the lower tail's
/// probabilities keep their digits.
struct LowerTail {
  LowerTail(double mean, double low, double high)
      : flipped(low - mean > 0), a(flipped ? mean - high : low - mean), b(flipped ? mean - low : high - mean) {}
  double mass() const { return normal_below(b) - normal_below(a); }
  /// A place of N(0, 1) as one of N(mean, 1); the nearer end where it is no number, an end where it lies outside.
  double of(double mean, double x) const;

  bool flipped;
  double a, b;
};

/// x with P(N(0, 1) <= x) = p, 0 < p < 1, to about 1e-15 (Wichura 1988, algorithm AS 241).
double normal_quantile(double p);

/// A draw of N(mean, 1) between `low` and `high` (infinite ends are fine), by inversion in the tail that is nearer.
double truncated_normal(double mean, double low, double high, PortableRandom& random);

/// E of N(mean, 1) between `low` and `high`.
double truncated_mean(double mean, double low, double high);

/// A draw of the gamma distribution with this shape and rate 1 (Marsaglia and Tsang 2000).
double gamma_draw(double shape, PortableRandom& random);

/// A stream of its own for every index of every kind at every sweep: draws so do not depend on the order in which
/// threads come to them, nor on where a chain was cut.
inline PortableRandom random_stream(uint64_t seed, uint64_t sweep, uint64_t kind, uint64_t index) {
  PortableRandom mixer(seed);
  for (const uint64_t part : {sweep, kind, index}) mixer = PortableRandom(mixer.next() ^ part);
  return PortableRandom(mixer.next());
}

}  // namespace deeplora
