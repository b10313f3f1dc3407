#include "models/activation.h"

#include <torch/torch.h>

namespace deeplora {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// silu(gate) up
class SiluGate : public torch::autograd::Function<SiluGate> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& gate_up) {
    ctx->save_for_backward({gate_up});
    return applied(InputFunction::silu_gate, gate_up, at::kFloat);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    return {gradient_before(InputFunction::silu_gate, gradients[0].contiguous(), ctx->get_saved_variables()[0])};
  }
};

}  // namespace

torch::Tensor activate(const torch::Tensor& x, const std::string& name) {
  if (name == "gelu") return at::gelu(x);
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return at::gelu(x, "tanh");
  if (name == "quick_gelu") return x * at::sigmoid(1.702 * x);
  if (name == "relu") return at::relu(x);
  if (name == "silu" || name == "swish") return at::silu(x);
  return at::tanh(x);
}

torch::Tensor activate_gate(const torch::Tensor& gate_up, const std::string& name) {
  if (gate_function(name) && can_apply(gate_up)) return SiluGate::apply(gate_up);
  const auto parts = gate_up.chunk(2, -1);
  return activate(parts[0], name) * parts[1];
}

std::optional<InputFunction> input_function(const std::string& name) {
  if (name == "gelu") return InputFunction::gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return InputFunction::gelu_tanh;
  return std::nullopt;
}

std::optional<InputFunction> gate_function(const std::string& name) {
  return name == "silu" || name == "swish" ? std::optional(InputFunction::silu_gate) : std::nullopt;
}

}  // namespace deeplora
