// Activation functions in front of a layer's product.
#pragma once

#include <torch/types.h>

namespace deeplora {

/// What a layer applies to its input first, in the pass over memory that prepares the input for the product.
enum class InputFunction {
  identity,
  gelu,       ///< x Phi(x)
  gelu_tanh,  ///< its approximation by tanh (GPT-2)
};

/// x in `dtype`. On the CPU rounding to bfloat16 is our own loop: LibTorch's takes three times as long.
torch::Tensor rounded_to(const torch::Tensor& x, at::ScalarType dtype);

/// Whether applied() serves x: float32 on the CPU, one row behind the other.
bool can_apply(const torch::Tensor& x);

/// f(x) in `dtype`, float32 or bfloat16.
torch::Tensor applied(InputFunction function, const torch::Tensor& x, at::ScalarType dtype);

/// g (float32, contiguous) *= f'(x)
void multiply_by_derivative(InputFunction function, torch::Tensor& g, const torch::Tensor& x);

}  // namespace deeplora
