#include "text/bpe_merges.h"

#include <queue>
#include <tuple>

namespace deeplora {
namespace {

/// Ids stay below 2^22 (Vocabulary), so two of them fit.
uint64_t key_of(int64_t left, int64_t right) {
  return (static_cast<uint64_t>(left) << 32) | static_cast<uint64_t>(right);
}

}  // namespace

void BpeMerges::add(int64_t left, int64_t right, int64_t merged) {
  merges_.emplace(key_of(left, right), Merge{static_cast<int64_t>(merges_.size()), merged});
}

const BpeMerges::Merge* BpeMerges::find(int64_t left, int64_t right) const {
  const auto found = merges_.find(key_of(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void BpeMerges::apply(std::vector<int64_t>& ids) const {
  constexpr int64_t kGone = -1;
  const auto n = static_cast<int64_t>(ids.size());
  std::vector<int64_t> previous(ids.size()), next(ids.size());
  // (rank, place of the left one, merged id); an entry is out of date when the pair there now merges to
  // something else.
  using Entry = std::tuple<int64_t, int64_t, int64_t>;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
  const auto consider = [&](int64_t left) {
    if (left < 0 || next[left] >= n) return;
    if (const Merge* merge = find(ids[left], ids[next[left]])) queue.emplace(merge->rank, left, merge->id);
  };
  for (int64_t i = 0; i < n; ++i) {
    previous[i] = i - 1;
    next[i] = i + 1;
  }
  for (int64_t i = 0; i < n; ++i) consider(i);
  while (!queue.empty()) {
    const auto [rank, left, merged] = queue.top();
    queue.pop();
    if (ids[left] == kGone || next[left] >= n) continue;
    const int64_t right = next[left];
    const Merge* merge = find(ids[left], ids[right]);
    if (!merge || merge->rank != rank) continue;
    ids[left] = merged;
    ids[right] = kGone;
    next[left] = next[right];
    if (next[right] < n) previous[next[right]] = left;
    consider(previous[left]);
    consider(left);
  }
  std::erase(ids, kGone);
}

}  // namespace deeplora
