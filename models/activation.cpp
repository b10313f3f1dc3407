#include "models/activation.h"

#include <torch/torch.h>

namespace deeplora {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// f(x), or f(gate) up, in one pass each way. LibTorch's own gelu lets oneDNN compile a kernel for every number of
/// tokens that it has not met, and keeps up to 1024 of them: 50 KB each way.
class Activated : public torch::autograd::Function<Activated> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x, InputFunction function) {
    ctx->save_for_backward({x});
    ctx->saved_data["function"] = static_cast<int64_t>(function);
    return applied(function, x, at::kFloat);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto function = static_cast<InputFunction>(ctx->saved_data["function"].toInt());
    // That of a gate is made anew; others are worked on in place, and somebody else may read what came in.
    torch::Tensor own =
        is_gate(function) ? gradients[0].contiguous() : gradients[0].clone(at::MemoryFormat::Contiguous);
    return {gradient_before(function, std::move(own), ctx->get_saved_variables()[0]), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor activate(const torch::Tensor& x, const std::string& name) {
  const auto own = input_function(name);
  if (own && can_apply(x)) return Activated::apply(x, *own);
  if (name == "gelu") return at::gelu(x);
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return at::gelu(x, "tanh");
  if (name == "quick_gelu") return x * at::sigmoid(1.702 * x);
  if (name == "relu") return at::relu(x);
  if (name == "silu" || name == "swish") return at::silu(x);
  return at::tanh(x);
}

torch::Tensor activate_gate(const torch::Tensor& gate_up, const std::string& name) {
  const auto function = gate_function(name);
  if (function && can_apply(gate_up)) return Activated::apply(gate_up, *function);
  const auto parts = gate_up.chunk(2, -1);
  return activate(parts[0], name) * parts[1];
}

std::optional<InputFunction> input_function(const std::string& name) {
  if (name == "gelu") return InputFunction::gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return InputFunction::gelu_tanh;
  return std::nullopt;
}

std::optional<InputFunction> gate_function(const std::string& name) {
  if (name == "silu" || name == "swish") return InputFunction::silu_gate;
  const auto plain = input_function(name);
  if (!plain) return std::nullopt;
  return *plain == InputFunction::gelu ? InputFunction::gelu_gate : InputFunction::gelu_tanh_gate;
}

}  // namespace deeplora
