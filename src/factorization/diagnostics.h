// Measures of the low-rank structure that the method is about.
#pragma once

#include <torch/types.h>

namespace deeplora {

/// Number of singular values above tolerance x the largest; with tolerance < 0: larger_side x machine
/// epsilon, as numpy's matrix_rank, where larger_side is max(m, n) of the matrix (the number of values when
/// not given). `singular_values` [k] in any order; 0 for the zero matrix.
int64_t numerical_rank(const torch::Tensor& singular_values, double tolerance = -1, int64_t larger_side = 0);

/// exp of the entropy of the normalised singular values (Roy & Vetterli 2007): a rank that needs no
/// threshold.
double effective_rank(const torch::Tensor& singular_values);

/// Principal angles in radians, rising, float64, between the column spaces of a [d, p] and b [d, q]: as many
/// as the smaller space has dimensions (min(p, q) unless columns depend on each other). Exact to rounding for
/// small angles too (Knyazev & Argentati 2002). Throws std::invalid_argument when the numbers of rows differ.
torch::Tensor principal_angles(const torch::Tensor& a, const torch::Tensor& b);

/// || P_a - P_b ||_F / sqrt(2 min(p,q)) in [0, 1] for column spaces of equal dimension: 0 equal, 1
/// orthogonal. A space of p - q more dimensions adds (p - q) / (2 q) under the root; 1 when exactly one of
/// the two is the null space.
double subspace_distance(const torch::Tensor& a, const torch::Tensor& b);

}  // namespace deeplora
