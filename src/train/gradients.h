// The global norm of all gradients, clipping by it, and what is wrong when it is not a number.
#pragma once

#include <string>
#include <vector>

#include "core/optimizer.h"

namespace deeplora {

/// 2-norm over all gradients of the groups together; parameters without a gradient are left out, 0 when none
/// has one. The value that torch.nn.utils.clip_grad_norm_ returns.
double gradient_norm(const std::vector<ParamGroup>& groups);

/// Scales the gradients so that their global norm `norm` becomes at most `largest`, by the factor
/// min(1, largest / (norm + 1e-6)) of torch.nn.utils.clip_grad_norm_.
void clip_gradients(const std::vector<ParamGroup>& groups, double norm, double largest);

/// The first parameter whose gradient holds a NaN or an infinity, else the one with the largest gradient
/// norm; "" when no parameter has a gradient.
std::string offending_parameter(const std::vector<ParamGroup>& groups);

/// The first parameter whose values hold a NaN or an infinity, "" when all are finite.
std::string first_non_finite(const std::vector<ParamGroup>& groups);

/// Names of the parameters that have no gradient after a backward pass.
std::vector<std::string> without_gradient(const ParamGroup& group);

}  // namespace deeplora
