// Measures of the low-rank structure that the method is about.
#pragma once

#include <torch/types.h>

namespace deeplora {

/// Number of singular values above tolerance x the largest; with tolerance < 0: max(m, n) x machine epsilon, as numpy's
/// matrix_rank. `singular_values` [k] in any order; 0 for the zero matrix.
int64_t numerical_rank(const torch::Tensor& singular_values, double tolerance = -1, int64_t larger_side = 0);

/// exp of the entropy of the normalised singular values (Roy & Vetterli 2007): a rank that needs no threshold.
double effective_rank(const torch::Tensor& singular_values);

/// Principal angles in radians, rising, between the column spaces of a [d, p] and b [d, q]: min(p, q) values.
torch::Tensor principal_angles(const torch::Tensor& a, const torch::Tensor& b);

/// || P_a - P_b ||_F / sqrt(2 min(p,q)) in [0, 1] for column spaces of equal dimension: 0 equal, 1 orthogonal.
double subspace_distance(const torch::Tensor& a, const torch::Tensor& b);

}  // namespace deeplora
