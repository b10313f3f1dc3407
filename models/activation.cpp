#include "models/activation.h"

#include <ATen/ATen.h>

namespace deeplora {

torch::Tensor activate(const torch::Tensor& x, const std::string& name) {
  if (name == "gelu") return at::gelu(x);
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return at::gelu(x, "tanh");
  if (name == "quick_gelu") return x * at::sigmoid(1.702 * x);
  if (name == "relu") return at::relu(x);
  if (name == "silu" || name == "swish") return at::silu(x);
  return at::tanh(x);
}

std::optional<InputFunction> input_function(const std::string& name) {
  if (name == "gelu") return InputFunction::gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return InputFunction::gelu_tanh;
  return std::nullopt;
}

}  // namespace deeplora
