// The merge table of byte-pair encoding.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

namespace deeplora {

/// Pairs of ids that become one, in order of rank.
class BpeMerges {
 public:
  /// Adds the next merge, of the lowest priority so far; the first of two equal pairs counts.
  void add(int64_t left, int64_t right, int64_t merged);
  /// Merges neighbours until no pair is known: always the pair of the lowest rank, the leftmost of equals.
  /// O(n log n).
  void apply(std::vector<int64_t>& ids) const;

 private:
  struct Merge {
    int64_t rank, id;
  };
  const Merge* find(int64_t left, int64_t right) const;
  std::unordered_map<uint64_t, Merge> merges_;
};

}  // namespace deeplora
