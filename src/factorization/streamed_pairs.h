// Leading singular pairs of a sum of matrices that come by one after the other.
#pragma once

#include "factorization/spectral.h"

namespace deeplora {

/// Leading k singular pairs of M = M_1 + M_2 + ... in O((m + n) k) memory; neither M nor any term is formed or kept.
///
/// The terms come by in passes, the same ones in the same order. In the first pass the leading s = 2k (k + 16 at least)
/// pairs of (what is kept + the term) are kept, each by randomized subspace iteration; that is exact to the iteration
/// for one term, or when s is the smaller side. Otherwise the truncations have left an error, and two more passes
/// iterate on M itself, exact because its products are sums over the terms: U, V <- orth(M V), orth(M^T U), and then
/// the leading left vectors of M V and of M^T U, paired by the SVD of the small matrix between them.
class StreamedPairs {
 public:
  StreamedPairs(int64_t rows, int64_t cols, int64_t k, torch::TensorOptions options, at::Generator generator);

  /// After the last pass the term is ignored: other sums may need more passes.
  void add(const MatrixAction& term);
  /// Ends a pass; true when the terms must come by once more. Throws std::logic_error when nothing was added.
  bool end_pass();
  /// u [m, k'], s [k'], v [n, k'] with k' = min(k, m, n), after the last pass.
  SingularPairs pairs() const;

 private:
  enum class Pass { merge, iterate, combine, done };
  void merge(const MatrixAction& term);
  SingularPairs combined() const;

  int64_t rows_, cols_, k_, kept_pairs_, terms_ = 0;
  torch::TensorOptions options_;
  at::Generator generator_;
  Pass pass_ = Pass::merge;
  SingularPairs kept_;
  torch::Tensor left_, right_;  ///< M V [m, s] and M^T U [n, s] of the terms so far
};

}  // namespace deeplora
