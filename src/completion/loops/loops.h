// The innermost loops of the residual kernel, compiled once per instruction set and chosen when the program runs.
// Includes nothing of LibTorch or the standard library's inline functions: code compiled for a newer machine must not
// reach an older one through a shared inline function.
#pragma once

#include <cstdint>

namespace deeplora::loops {

/// Entries and lanes are handled eight at a time.
inline constexpr int64_t kBlock = 8;

/// Rows [row_from, row_to) of the problem. Matrices are row-major with `stride` (a multiple of kBlock) elements a row,
/// zero beyond the width; row i owns the blocks block_begin[i] to block_begin[i + 1] - 1 of kBlock entries each.
template <class T>
struct Rows {
  int64_t row_from, row_to, stride;
  const int64_t* block_begin;
  const int32_t* index;  ///< column of each entry; a filled-up entry points at a row of zeros
  const T* target;
  T* residual;
  const T *b, *a;  ///< [m, stride], [n + 1, stride]
  T *db, *da;      ///< written (db) and added to (da) when spreading
  const T *p, *q;  ///< directions of along()
};

/// What is done with a block: residuals from the product, gradients from residuals.
struct Work {
  bool dot, spread;
};

template <class T>
struct Table {
  /// Sum of the squared residuals (0 without dot).
  double (*rows)(const Rows<T>&, Work);
  /// Adds to sums: R^2, R d1, d1^2 + 2 R d2, d1 d2, d2^2, with d1 = b.q + p.a, d2 = p.q.
  void (*along)(const Rows<T>&, double* sums);
};

/// For the processor at hand.
template <class T>
const Table<T>& best();

namespace portable {
template <class T>
const Table<T>& table();
}
namespace avx2 {
template <class T>
const Table<T>& table();
}
namespace avx512 {
template <class T>
const Table<T>& table();
}

}  // namespace deeplora::loops
