#include "ratings/ratings.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ratings/portable_random.h"

namespace deeplora {
namespace {

std::vector<int64_t> permutation(int64_t size, uint64_t seed) {
  std::vector<int64_t> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), int64_t{0});
  PortableRandom random(seed);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  return order;
}

int64_t share_of(int64_t size, double share, std::string_view how) {
  check(share > 0 && share < 1, "the held-out share must lie between 0 and 1, found ", share);
  const auto held = static_cast<int64_t>(std::llround(share * static_cast<double>(size)));
  check(held > 0 && held < size, how, ": a share of ", share, " of ", size, " ratings leaves ", held, " held out and ",
        size - held, " to train on; expected at least one of each");
  return held;
}

/// Everything that `held` marks, and the rest, both in order.
Split by_mark(const std::vector<char>& held) {
  Split split;
  for (size_t i = 0; i < held.size(); ++i) (held[i] ? split.held_out : split.train).push_back(static_cast<int64_t>(i));
  return split;
}

/// Leaves the entries for which keep(i) holds, in order.
template <class Keep>
void filter(Ratings& ratings, const Keep& keep) {
  size_t out = 0;
  for (size_t i = 0; i < ratings.value.size(); ++i) {
    if (!keep(i)) continue;
    ratings.row[out] = ratings.row[i];
    ratings.col[out] = ratings.col[i];
    ratings.value[out] = ratings.value[i];
    if (!ratings.time.empty()) ratings.time[out] = ratings.time[i];
    ++out;
  }
  ratings.row.resize(out);
  ratings.col.resize(out);
  ratings.value.resize(out);
  if (!ratings.time.empty()) ratings.time.resize(out);
}

std::string entry_name(const Ratings& r, int64_t i) {
  const auto at = static_cast<size_t>(i);
  return cat("(", r.rows.name(r.row[at]), ", ", r.cols.name(r.col[at]), ")");
}

}  // namespace

Ratings Ratings::subset(const std::vector<int64_t>& which) const {
  Ratings out;
  out.rows = rows;
  out.cols = cols;
  out.row_column = row_column;
  out.col_column = col_column;
  for (const int64_t i : which) {
    const auto at = static_cast<size_t>(i);
    out.row.push_back(row[at]);
    out.col.push_back(col[at]);
    out.value.push_back(value[at]);
    if (!time.empty()) out.time.push_back(time[at]);
  }
  return out;
}

void merge_duplicates(Ratings& ratings, Duplicates rule, std::string_view what) {
  std::vector<std::pair<uint64_t, int64_t>> keys;
  keys.reserve(ratings.value.size());
  const auto width = static_cast<uint64_t>(ratings.cols.size());
  for (size_t i = 0; i < ratings.value.size(); ++i)
    keys.emplace_back(static_cast<uint64_t>(ratings.row[i]) * width + static_cast<uint64_t>(ratings.col[i]),
                      static_cast<int64_t>(i));
  std::sort(keys.begin(), keys.end());
  std::vector<char> extra(ratings.value.size(), 0);
  int64_t pairs = 0, surplus = 0, example = -1;
  for (size_t begin = 0; begin < keys.size();) {
    size_t end = begin + 1;
    while (end < keys.size() && keys[end].first == keys[begin].first) ++end;
    if (end - begin > 1) {
      const auto first = static_cast<size_t>(keys[begin].second);
      if (example < 0) example = keys[begin].second;
      ++pairs;
      surplus += static_cast<int64_t>(end - begin - 1);
      double sum = 0;
      size_t last = first;
      for (size_t k = begin; k < end; ++k) {
        const auto i = static_cast<size_t>(keys[k].second);
        sum += ratings.value[i];
        if (ratings.time.empty() || ratings.time[i] >= ratings.time[last]) last = i;
        extra[i] = i != first;
      }
      ratings.value[first] = rule == Duplicates::mean ? sum / static_cast<double>(end - begin) : ratings.value[last];
      if (!ratings.time.empty()) ratings.time[first] = ratings.time[last];
    }
    begin = end;
  }
  if (pairs == 0) return;
  const std::string met = cat(what, ": ", pairs, " pairs of row and column are rated more than once (", surplus,
                              " surplus ratings), e.g. ", entry_name(ratings, example));
  check(rule != Duplicates::error, met, "; expected each pair once (completion.duplicates: last or mean merges them)");
  filter(ratings, [&](size_t i) { return !extra[i]; });
  ratings.remarks.push_back(
      cat(met, "; ", rule == Duplicates::mean ? "their mean was taken" : "the last one was taken"));
}

void apply_range(Ratings& ratings, double low, double high, OutOfRange rule, std::string_view what) {
  check(low < high, "completion.range: expected [low, high] with low < high, found [", low, ", ", high, "]");
  int64_t outside = 0, example = -1;
  for (size_t i = 0; i < ratings.value.size(); ++i)
    if (ratings.value[i] < low || ratings.value[i] > high) {
      if (outside++ == 0) example = static_cast<int64_t>(i);
    }
  if (outside == 0) return;
  const std::string met =
      cat(what, ": ", outside, " ratings lie outside the declared range [", low, ", ", high, "], e.g. ",
          ratings.value[static_cast<size_t>(example)], " at ", entry_name(ratings, example));
  check(rule != OutOfRange::error, met, "; correct completion.range, or choose completion.out_of_range: clip or drop");
  if (rule == OutOfRange::clip)
    for (double& value : ratings.value) value = std::clamp(value, low, high);
  else filter(ratings, [&](size_t i) { return ratings.value[i] >= low && ratings.value[i] <= high; });
  ratings.remarks.push_back(cat(met, rule == OutOfRange::clip ? "; they were clipped" : "; they were dropped"));
}

void align(Ratings& ratings, const IdIndex& rows, const IdIndex& cols, std::string_view what) {
  const auto renumber = [&](const IdIndex& own, const IdIndex& known, std::vector<int32_t>& numbers,
                            std::string_view kind) {
    std::vector<int32_t> map;
    std::vector<std::string> unknown;
    for (const auto& name : own.names()) {
      map.push_back(known.find(name));
      if (map.back() < 0) unknown.push_back(name);
    }
    int64_t entries = 0;
    for (int32_t& number : numbers) entries += (number = map[static_cast<size_t>(number)]) < 0;
    if (entries > 0)
      ratings.remarks.push_back(cat(what, ": ", entries, " entries of ", unknown.size(), " ", kind,
                                    "s that were not trained on (", join(unknown, ", ", 5),
                                    "); predicted without that ", kind, "'s bias and factors"));
  };
  renumber(ratings.rows, rows, ratings.row, "row");
  renumber(ratings.cols, cols, ratings.col, "column");
  ratings.rows = rows;
  ratings.cols = cols;
}

int64_t overlap_of(const Ratings& a, const Ratings& b) {
  const auto width = static_cast<uint64_t>(std::max(a.cols.size(), b.cols.size()));
  const auto key = [width](const Ratings& r, size_t i) {
    return static_cast<uint64_t>(r.row[i]) * width + static_cast<uint64_t>(r.col[i]);
  };
  std::vector<uint64_t> known;
  for (size_t i = 0; i < a.value.size(); ++i)
    if (a.row[i] >= 0 && a.col[i] >= 0) known.push_back(key(a, i));
  std::sort(known.begin(), known.end());
  int64_t out = 0;
  for (size_t i = 0; i < b.value.size(); ++i)
    out += b.row[i] >= 0 && b.col[i] >= 0 && std::binary_search(known.begin(), known.end(), key(b, i));
  return out;
}

Ratings united(const Ratings& a, const Ratings& b) {
  Ratings out = a;
  const bool times = !a.time.empty() && !b.time.empty();
  if (!times) out.time.clear();
  const auto numbers = [](const IdIndex& from, IdIndex& to) {
    std::vector<int32_t> map;
    for (const auto& name : from.names()) map.push_back(to.add(name));
    return map;
  };
  const auto rows = numbers(b.rows, out.rows), cols = numbers(b.cols, out.cols);
  for (size_t i = 0; i < b.value.size(); ++i) {
    out.row.push_back(rows[static_cast<size_t>(b.row[i])]);
    out.col.push_back(cols[static_cast<size_t>(b.col[i])]);
    out.value.push_back(b.value[i]);
    if (times) out.time.push_back(b.time[i]);
  }
  return out;
}

Split random_split(int64_t size, double share, uint64_t seed) {
  const int64_t held = share_of(size, share, "random split");
  const auto order = permutation(size, seed);
  std::vector<char> mark(static_cast<size_t>(size), 0);
  for (int64_t i = 0; i < held; ++i) mark[static_cast<size_t>(order[static_cast<size_t>(i)])] = 1;
  return by_mark(mark);
}

Split time_split(const Ratings& ratings, double share) {
  check(!ratings.time.empty(),
        "a split by time needs a time for every rating, and the data has none; name its column in "
        "completion.columns.time, "
        "or choose completion.split: random");
  const int64_t held = share_of(ratings.size(), share, "split by time");
  std::vector<int64_t> order(static_cast<size_t>(ratings.size()));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return ratings.time[static_cast<size_t>(a)] < ratings.time[static_cast<size_t>(b)];
  });
  std::vector<char> mark(order.size(), 0);
  for (int64_t i = ratings.size() - held; i < ratings.size(); ++i)
    mark[static_cast<size_t>(order[static_cast<size_t>(i)])] = 1;
  return by_mark(mark);
}

std::vector<Split> k_folds(int64_t size, int64_t k, uint64_t seed) {
  check(k >= 2 && k <= size, "completion.folds: expected from 2 to the number of ratings (", size, "), found ", k);
  const auto order = permutation(size, seed);
  std::vector<Split> folds;
  int64_t begin = 0;
  for (int64_t f = 0; f < k; ++f) {
    const int64_t end = begin + size / k + (f < size % k ? 1 : 0);
    std::vector<char> mark(order.size(), 0);
    for (int64_t i = begin; i < end; ++i) mark[static_cast<size_t>(order[static_cast<size_t>(i)])] = 1;
    folds.push_back(by_mark(mark));
    begin = end;
  }
  return folds;
}

}  // namespace deeplora
