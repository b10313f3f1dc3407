// Random numbers that are the same with every standard library, unlike std::shuffle and std::normal_distribution.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace deeplora {

/// splitmix64 (Steele, Lea, Flood 2014).
class PortableRandom {
 public:
  explicit PortableRandom(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  /// Uniform in [0, bound).
  uint64_t below(uint64_t bound) {
    constexpr uint64_t most = std::numeric_limits<uint64_t>::max();
    const uint64_t limit = most - most % bound;
    uint64_t drawn = next();
    while (drawn >= limit) drawn = next();
    return drawn % bound;
  }
  /// Uniform in (0, 1), without the ends.
  double inside() { return (static_cast<double>(next() >> 11) + 0.5) * 0x1.0p-53; }
  /// N(0, 1), by Box and Muller.
  double normal() {
    const double u = inside(), v = static_cast<double>(next() >> 11) * 0x1.0p-53;
    return std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v);
  }

 private:
  uint64_t state_;
};

}  // namespace deeplora
