#include "models/activation.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace deeplora {

void check_activation(const TorchScriptArchive& archive, const std::string& name) {
  static const std::vector<std::string> kKnown{"gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "quick_gelu", "relu", "silu", "swish", "tanh"};
  check(std::find(kKnown.begin(), kKnown.end(), name) != kKnown.end(), "model ", archive.file().string(), ": activation '", name,
        "' is not known; known: ", join(kKnown, ", ", kKnown.size()));
}

torch::Tensor activate(const torch::Tensor& x, const std::string& name) {
  if (name == "gelu") return at::gelu(x);
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return at::gelu(x, "tanh");
  if (name == "quick_gelu") return x * at::sigmoid(1.702 * x);
  if (name == "relu") return at::relu(x);
  if (name == "silu" || name == "swish") return at::silu(x);
  return at::tanh(x);
}

}  // namespace deeplora
