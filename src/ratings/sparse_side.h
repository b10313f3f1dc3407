// Ratings seen from their rows or from their columns, and a loop over either on several threads. Free of LibTorch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

namespace deeplora {

/// Compressed sparse rows: entry e of begin[i] <= e < begin[i + 1] stands in column other[e] with value[e].
struct SparseSide {
  std::vector<int64_t> begin;
  std::vector<int32_t> other;
  std::vector<double> value;

  int64_t size() const { return static_cast<int64_t>(begin.size()) - 1; }
  int64_t count(int64_t i) const { return begin[static_cast<size_t>(i) + 1] - begin[static_cast<size_t>(i)]; }

  static SparseSide make(int64_t size, const std::vector<int32_t>& own, const std::vector<int32_t>& other,
                         const std::vector<double>& value) {
    SparseSide side;
    side.begin.assign(static_cast<size_t>(size) + 1, 0);
    for (const int32_t i : own) ++side.begin[static_cast<size_t>(i) + 1];
    for (size_t i = 1; i < side.begin.size(); ++i) side.begin[i] += side.begin[i - 1];
    std::vector<int64_t> at(side.begin.begin(), side.begin.end() - 1);
    side.other.resize(own.size());
    side.value.resize(own.size());
    for (size_t e = 0; e < own.size(); ++e) {
      const auto place = static_cast<size_t>(at[static_cast<size_t>(own[e])]++);
      side.other[place] = other[e];
      side.value[place] = value[e];
    }
    return side;
  }
};

/// body(begin, end, thread) over parts of [0, size) with about equal numbers of entries. Bodies write only what belongs
/// to their indices, so the result does not depend on the number of threads.
template <class Body>
void for_parts(const SparseSide& side, int threads, const Body& body) {
  const int64_t size = side.size(), entries = side.begin.back() + size;
  std::vector<int64_t> cuts{0};
  for (int t = 1; t < threads; ++t) {
    const int64_t wanted = entries / threads * t;
    int64_t low = cuts.back(), high = size;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (side.begin[static_cast<size_t>(middle)] + middle < wanted) low = middle + 1;
      else high = middle;
    }
    cuts.push_back(low);
  }
  cuts.push_back(size);
  std::vector<std::exception_ptr> thrown(static_cast<size_t>(threads));
  const auto guarded = [&](int t) {
    try {
      body(cuts[static_cast<size_t>(t)], cuts[static_cast<size_t>(t) + 1], t);
    } catch (...) {
      thrown[static_cast<size_t>(t)] = std::current_exception();
    }
  };
  std::vector<std::thread> pool;
  for (int t = 1; t < threads; ++t) pool.emplace_back(guarded, t);
  guarded(0);
  for (auto& thread : pool) thread.join();
  for (const auto& e : thrown)
    if (e) std::rethrow_exception(e);
}

}  // namespace deeplora
