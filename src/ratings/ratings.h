// Ratings in memory: entries of a matrix whose rows and columns have names. Free of LibTorch.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "ratings/id_index.h"

namespace deeplora {

/// Observed entries of an m x n matrix. row, col, value have one element an entry; time too, or it is empty.
struct Ratings {
  IdIndex rows, cols;
  std::vector<int32_t> row, col;  ///< numbers in rows and cols; -1 only after align(): not known there
  std::vector<double> value;
  std::vector<double> time;            ///< any unit that grows; empty when the file has none
  std::vector<std::string> remarks;    ///< what was met in reading and what was made of it, one sentence each
  std::string row_column, col_column;  ///< what the file calls its columns of ids; empty without such names

  int64_t size() const { return static_cast<int64_t>(value.size()); }
  /// The entries `which`, in that order, with the same rows and cols.
  Ratings subset(const std::vector<int64_t>& which) const;
};

/// What becomes of entries given more than once: an error, the later one (by time where there is one, else by place),
/// or the mean.
enum class Duplicates { error, last, mean };

/// Merges entries of the same row and column, keeping the place of the first one, and adds a remark that says how many
/// there were. Throws Error for Duplicates::error. `what` names the data in messages.
void merge_duplicates(Ratings& ratings, Duplicates rule, std::string_view what);

/// What becomes of values outside the declared range.
enum class OutOfRange { error, clip, drop };

/// Applies a declared [low, high] and adds a remark when any value lay outside. Throws Error for OutOfRange::error.
void apply_range(Ratings& ratings, double low, double high, OutOfRange rule, std::string_view what);

/// Renumbers `ratings` by the names of `known`, with -1 for names that are not there, and adds remarks that say how
/// many.
void align(Ratings& ratings, const IdIndex& rows, const IdIndex& cols, std::string_view what);

/// How many entries of `b` are of pairs that `a` holds as well; both numbered alike, -1 is no pair.
int64_t overlap_of(const Ratings& a, const Ratings& b);

/// The entries of `a`, then those of `b`, by the names of both: those of `a` keep their numbers. Times are kept where
/// both have them.
Ratings united(const Ratings& a, const Ratings& b);

/// Entry numbers of a part of the data.
struct Split {
  std::vector<int64_t> train, held_out;
};

/// Holds out round(share x size) entries, drawn without replacement; both parts in file order. The same seed gives the
/// same split on every machine. Throws Error when either part would be empty.
Split random_split(int64_t size, double share, uint64_t seed);

/// Holds out the newest share of the entries (the file's order decides between equal times). Throws Error without
/// times.
Split time_split(const Ratings& ratings, double share);

/// k folds of equal size (the first size % k have one more): a random permutation cut into k parts; element f is fold f
/// as held-out part. Throws Error for k < 2 or more folds than entries.
std::vector<Split> k_folds(int64_t size, int64_t k, uint64_t seed);

}  // namespace deeplora
