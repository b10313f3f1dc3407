#include "text/sampling.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/error.h"

namespace deeplora {
namespace {

/// The first `count` places of a Fisher-Yates shuffle from the front.
void shuffle_front(std::vector<size_t>& items, size_t count, SplitMix64& random) {
  for (size_t i = 0; i < count && i + 1 < items.size(); ++i)
    std::swap(items[i], items[i + random.below(items.size() - i)]);
}

std::vector<size_t> identity(size_t n) {
  std::vector<size_t> out(n);
  std::iota(out.begin(), out.end(), size_t{0});
  return out;
}

/// A stream of its own for every epoch.
uint64_t epoch_seed(uint64_t seed, uint64_t epoch) { return SplitMix64(SplitMix64(seed).next() + epoch).next(); }

}  // namespace

uint64_t SplitMix64::next() {
  uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

uint64_t SplitMix64::below(uint64_t bound) {
  const uint64_t rejected = (0 - bound) % bound;  // 2^64 mod bound: below it, the remainders would not be uniform
  uint64_t draw = next();
  while (draw < rejected) draw = next();
  return draw % bound;
}

std::vector<size_t> shuffled(size_t n, uint64_t seed) {
  std::vector<size_t> out = identity(n);
  SplitMix64 random(seed);
  shuffle_front(out, n, random);
  return out;
}

std::vector<size_t> sample_rows(size_t n, size_t samples, uint64_t seed, const std::string& source) {
  check(samples <= n, "data.samples: ", samples, ", but ", source, " has ", n, n == 1 ? " row" : " rows",
        "; rows are drawn without replacement");
  std::vector<size_t> out = identity(n);
  SplitMix64 random(seed);
  shuffle_front(out, samples, random);
  out.resize(samples);
  return out;
}

std::vector<std::vector<size_t>> make_batches(std::span<const int64_t> lengths, size_t batch_size, BatchOrder order,
                                              uint64_t seed, uint64_t epoch) {
  if (batch_size == 0) throw std::logic_error("make_batches: batch_size is 0");
  SplitMix64 random(epoch_seed(seed, epoch));
  std::vector<size_t> rows = identity(lengths.size());
  if (order == BatchOrder::shuffled || order == BatchOrder::length_grouped) shuffle_front(rows, rows.size(), random);
  if (order == BatchOrder::length_grouped || order == BatchOrder::sorted_by_length) {
    const size_t stretch = order == BatchOrder::length_grouped ? 50 * batch_size : std::max<size_t>(rows.size(), 1);
    for (size_t begin = 0; begin < rows.size(); begin += stretch) {
      const size_t end = std::min(rows.size(), begin + stretch);
      std::stable_sort(rows.begin() + static_cast<std::ptrdiff_t>(begin),
                       rows.begin() + static_cast<std::ptrdiff_t>(end),
                       [&](size_t a, size_t b) { return lengths[a] > lengths[b]; });
    }
  }
  std::vector<std::vector<size_t>> batches;
  for (size_t begin = 0; begin < rows.size(); begin += batch_size) {
    const size_t end = std::min(rows.size(), begin + batch_size);
    batches.emplace_back(rows.begin() + static_cast<std::ptrdiff_t>(begin),
                         rows.begin() + static_cast<std::ptrdiff_t>(end));
  }
  if (order == BatchOrder::length_grouped) {
    const size_t full = rows.size() / batch_size;
    for (size_t i = 0; i + 1 < full; ++i) std::swap(batches[i], batches[i + random.below(full - i)]);
  }
  return batches;
}

std::vector<std::vector<size_t>> length_grouped_batches(std::span<const int64_t> lengths, size_t batch_size,
                                                        uint64_t seed, uint64_t epoch) {
  return make_batches(lengths, batch_size, BatchOrder::length_grouped, seed, epoch);
}

}  // namespace deeplora
