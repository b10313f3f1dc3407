// A frozen linear layer and a factor chain beside it as one autograd function.
#pragma once

#include <torch/types.h>

#include <vector>

namespace deeplora {

/// y = x W^T + b + scale * x (W_L ... W_1)^T for x [..., n], W [m, n] and b [m] frozen (b may be undefined), factors
/// from input to output (W_1 [d_1, n] first, W_L [m, d_{L-1}] last). The same values and gradients as the operators one by one;
/// what it saves is passes over [N, m] and [N, n]: the update is accumulated into the products instead of added to them, and only x
/// and the narrow products are kept for the backward pass. Under autocast it computes in the autocast dtype, gradients of
/// the factors are in theirs.
torch::Tensor linear_with_chain(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                                const std::vector<torch::Tensor>& factors, double scale);

/// Whether linear_with_chain() serves these: a frozen weight and bias, and one floating-point dtype throughout.
bool can_fuse_chain(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                    const std::vector<torch::Tensor>& factors);

}  // namespace deeplora
