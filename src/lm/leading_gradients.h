// Leading singular pairs of the loss's gradient in many weights, without any of these gradients.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "factorization/spectral.h"
#include "lm/language_model.h"

namespace deeplora {

/// Runs the model on the starting batches and hands over each batch's share of the loss, one graph at a time. Called
/// once per pass; every call must give the same losses.
using StartingLosses = std::function<void(const std::function<void(const torch::Tensor& loss)>& take)>;

/// Leading k pairs (cut to the smaller side) of Gamma = dLoss/dW [out, in] for every site, by path.
///
/// Each slot holds a probe instead of an adapter: it adds nothing to the layer and, as dy [N, out] of its own layer
/// arrives in the backward pass, meets x [N, in] and turns the products dy^T (x Q) and x^T (dy P) into leading pairs
/// (StreamedPairs). An embedding's rows are added by id. So neither Gamma nor a [V, D] gradient exists, and the peak is
/// that of a training step: one batch's activations and O((m + n) k) per site. Gradients over several batches or uses
/// of a tied weight take three passes over them, a single one takes one.
///
/// Takes whatever was attached to the sites out, and leaves the slots empty. Throws Error naming the path when the loss
/// does not depend on a weight, or when a gradient is not finite.
std::map<std::string, SingularPairs> leading_gradients(const std::vector<AdapterSite>& sites, int64_t k,
                                                       const StartingLosses& losses, uint64_t seed);

}  // namespace deeplora
