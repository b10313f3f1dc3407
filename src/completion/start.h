// Where a chain starts: the methods of matrix completion.
#pragma once

#include "completion/config.h"
#include "completion/problem.h"
#include "factorization/factor_chain.h"
#include "factorization/spectral.h"

namespace deeplora {

/// Leading k singular pairs of Gamma = dLoss/dW at W = 0 (summed loss), by randomized subspace iteration with products
/// Gamma X and Gamma^T X only (Halko et al. 2011, algorithm 4.4); float64. k is cut to min(m, n).
SingularPairs leading_gradient_pairs(const Problem& problem, int64_t k, at::Generator generator, int64_t iterations = 8,
                                     int64_t oversampling = 8);

/// The same for the residuals that `gamma` keeps, with as many probes as it is wide; overwrites its b, a_t, db and
/// da_t.
SingularPairs leading_pairs_of(Objective& gamma, int64_t k, at::Generator generator, int64_t iterations = 8);

/// The chain of config.method. `pairs` are needed by compressed: config.rank of them. Throws Error when the widths do
/// not fit the matrix.
FactorChain start_chain(const ChainConfig& config, const Problem& problem, const SingularPairs& pairs, int64_t seed,
                        torch::TensorOptions options);

/// A step length for gradient descent on the summed loss: three quarters of the inverse of its largest curvature at the
/// solution, g L s^(2 - 2/L) with g = problem.gain (share of observed entries), L factors and s = s_1 / g the largest
/// singular value of the target (Saxe et al. 2014 for the curvature of deep linear chains).
double default_step(const SingularPairs& pairs, const Problem& problem, int64_t depth);

}  // namespace deeplora
