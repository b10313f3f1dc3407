// Principal directions of what many layers read, without keeping any of it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "factorization/spectral.h"
#include "lm/language_model.h"

namespace deeplora {

/// Leading k principal directions (cut to the width) of the inputs x [N, in] of every linear site, by path: v [in, k'],
/// s [k'] the sums of squares of x - mean(x) along them, falling; u equals v. `runs` runs the model, without gradients,
/// on all starting batches; it is called once per pass and must run the same each time.
///
/// Each slot holds a probe that adds nothing to its layer. The scatter matrix X^T X - N mean^T mean is a sum over the
/// batches of their own scatter and of a rank-one term for the step of the mean (Chan, Golub & LeVeque 1983); its
/// leading pairs come from StreamedPairs, so that neither x nor a matrix [in, in] is kept.
///
/// Takes whatever was attached to the sites out, and leaves the slots empty. Throws Error naming the paths that the
/// model never reads, or reads with infinities or NaN.
std::map<std::string, SingularPairs> leading_inputs(const std::vector<AdapterSite>& sites, int64_t k,
                                                    const std::function<void()>& runs, uint64_t seed);

}  // namespace deeplora
