// Activation functions in front of a layer's product.
#pragma once

#include <torch/types.h>

namespace deeplora {

/// What a layer applies to its input first, in the pass over memory that prepares the input for the product.
enum class InputFunction {
  identity,
  gelu,       ///< x Phi(x)
  gelu_tanh,  ///< its approximation by tanh (GPT-2)
  // Gates, f(a) b of [a, b] side by side: half as wide.
  silu_gate,       ///< Llama
  gelu_gate,       ///< ModernBERT
  gelu_tanh_gate,  ///< Gemma, T5
};

constexpr bool is_gate(InputFunction function) { return function >= InputFunction::silu_gate; }

/// x in `dtype`. On the CPU rounding to bfloat16 is our own loop: LibTorch's takes three times as long.
torch::Tensor rounded_to(const torch::Tensor& x, at::ScalarType dtype);

/// Whether applied() serves x: float32 on the CPU, one row behind the other.
bool can_apply(const torch::Tensor& x);

/// f(x) in `dtype`, float32 or bfloat16; x [..., n]. A gate's x may be bfloat16 too.
torch::Tensor applied(InputFunction function, const torch::Tensor& x, at::ScalarType dtype);

/// The gradient of x (float32) from g, that of f(x) (float32, contiguous), which it may overwrite.
torch::Tensor gradient_before(InputFunction function, torch::Tensor g, const torch::Tensor& x);

}  // namespace deeplora
