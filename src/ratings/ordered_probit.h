// Ratings of few values as intervals of a latent value with noise N(0, 1) (ordered probit; Albert and Chib 1993).
// Free of LibTorch.
#pragma once

#include <cstdint>
#include <vector>

#include "ratings/portable_random.h"

namespace deeplora {

class OrderedProbit {
 public:
  OrderedProbit() = default;
  /// The values that ratings take, ascending, are the levels; cutpoints start where the normal distribution has their
  /// shares. Throws Error for more than 100 values.
  explicit OrderedProbit(const std::vector<double>& ratings);
  /// Goes on with former levels and cutpoints. Throws Error for ratings of other values.
  OrderedProbit(const std::vector<double>& ratings, const std::vector<double>& levels,
                const std::vector<double>& cutpoints);

  const std::vector<double>& levels() const { return levels_; }
  const std::vector<double>& cutpoints() const { return cutpoints_; }

  /// Draws every cutpoint given its neighbours and the entries' means, latent values integrated out (a Metropolis step
  /// each). With `adapt` the steps' lengths are led towards 44 % acceptance: only before draws count.
  void draw_cutpoints(const std::vector<double>& mean, PortableRandom random, bool adapt);
  /// Draws the latent value of an entry given its mean.
  double latent(size_t entry, double mean, PortableRandom& random) const;

 private:
  void sort_entries(const std::vector<double>& ratings);
  double low_end(size_t level) const;
  double high_end(size_t level) const;
  /// log P of the entries of a level between two ends.
  double log_probability(size_t level, double low, double high, const std::vector<double>& mean) const;
  std::vector<double> levels_, cutpoints_, steps_;
  std::vector<size_t> level_;                 ///< of each entry
  std::vector<std::vector<size_t>> entries_;  ///< of each level
};

}  // namespace deeplora
