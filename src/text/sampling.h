// Which rows to train on and in which order. The same on every platform: no standard distribution is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace deeplora {

/// SplitMix64 (Steele, Lea and Flood, 2014) with unbiased bounded draws.
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  uint64_t next();
  /// Uniform in [0, bound); bound > 0.
  uint64_t below(uint64_t bound);

 private:
  uint64_t state_;
};

/// 0 .. n-1 in random order.
std::vector<size_t> shuffled(size_t n, uint64_t seed);

/// `samples` different rows of 0 .. n-1, in the order drawn; a larger `samples` of the same seed begins with
/// the smaller. Throws Error "data.samples: 5000, but train.jsonl has 1662 rows" when samples > n; `source`
/// names the rows.
std::vector<size_t> sample_rows(size_t n, size_t samples, uint64_t seed, const std::string& source = "the data");

enum class BatchOrder {
  given,            ///< rows as they come; seed and epoch do not matter
  shuffled,         ///< every batch a random draw
  length_grouped,   ///< rows of similar length together, batches in random order
  sorted_by_length  ///< longest first, for evaluation; seed and epoch do not matter
};

/// Every row 0 .. lengths.size()-1 exactly once, in batches of batch_size (> 0), at most one of them smaller
/// and that one last. length_grouped shuffles, sorts within stretches of 50 batches, and shuffles the full
/// batches. Each epoch of these two differs.
std::vector<std::vector<size_t>> make_batches(std::span<const int64_t> lengths, size_t batch_size, BatchOrder order,
                                              uint64_t seed, uint64_t epoch);

/// make_batches with BatchOrder::length_grouped.
std::vector<std::vector<size_t>> length_grouped_batches(std::span<const int64_t> lengths, size_t batch_size,
                                                        uint64_t seed, uint64_t epoch);

}  // namespace deeplora
