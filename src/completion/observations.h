// Observed entries of a matrix: what matrix completion knows. Free of file formats.
#pragma once

#include <torch/types.h>

#include <cstdint>

namespace deeplora {

/// N observed entries M_ij of an m x n matrix, sorted by row, then by column (compressed sparse rows).
/// Copies share the tensors, which nobody changes.
struct Observations {
  int64_t rows = 0, cols = 0;  ///< m, n; below 2^31
  torch::Tensor row, col;      ///< [N] int32, contiguous, CPU
  torch::Tensor value;         ///< [N] float64, contiguous, CPU

  /// Sorts entries given in any order and of any whole or floating dtype. Entries of one place stay beside each
  /// other in the given order (see repeated()). Throws std::invalid_argument when lengths differ or an index is
  /// outside the matrix.
  static Observations make(int64_t rows, int64_t cols, const torch::Tensor& row, const torch::Tensor& col,
                           const torch::Tensor& value);

  int64_t count() const { return value.defined() ? value.numel() : 0; }
  /// Share of the m n entries that is observed.
  double density() const;
  /// [m + 1] int64: row i holds the entries row_begin[i] to row_begin[i + 1] - 1.
  torch::Tensor row_begin() const;
  /// Number of entries that stand at the place of the entry before them.
  int64_t repeated() const;
  /// The entries of the transposed matrix, n x m.
  Observations transposed() const;
  /// [N] int64: position in *this of each entry of transposed().
  torch::Tensor transposed_order() const;
  /// The same places with other values [N].
  Observations with_values(const torch::Tensor& values) const;
  /// The entries at `index` [K] int64 (positions), sorted again: a random split, a fold, a mini-batch.
  Observations select(const torch::Tensor& index) const;
};

}  // namespace deeplora
