#include "models/activation.h"

#include <torch/torch.h>

namespace deeplora {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// f(gate) up
class Gate : public torch::autograd::Function<Gate> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& gate_up, InputFunction function) {
    ctx->save_for_backward({gate_up});
    ctx->saved_data["function"] = static_cast<int64_t>(function);
    return applied(function, gate_up, at::kFloat);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto function = static_cast<InputFunction>(ctx->saved_data["function"].toInt());
    return {gradient_before(function, gradients[0].contiguous(), ctx->get_saved_variables()[0]), {}};
  }
};

/// gelu() in one pass each way. LibTorch's own lets oneDNN compile a kernel for every number of tokens that it has not met, and keeps up to
/// 1024 of them: 50 KB each way.
class Gelu : public torch::autograd::Function<Gelu> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x, InputFunction function) {
    ctx->save_for_backward({x});
    ctx->saved_data["function"] = static_cast<int64_t>(function);
    return applied(function, x, at::kFloat);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto function = static_cast<InputFunction>(ctx->saved_data["function"].toInt());
    torch::Tensor own = gradients[0].clone(at::MemoryFormat::Contiguous);  // worked on in place, and others may read it
    return {gradient_before(function, std::move(own), ctx->get_saved_variables()[0]), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor activate(const torch::Tensor& x, const std::string& name) {
  const auto own = input_function(name);
  if (own && can_apply(x)) return Gelu::apply(x, *own);
  if (name == "gelu") return at::gelu(x);
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return at::gelu(x, "tanh");
  if (name == "quick_gelu") return x * at::sigmoid(1.702 * x);
  if (name == "relu") return at::relu(x);
  if (name == "silu" || name == "swish") return at::silu(x);
  return at::tanh(x);
}

torch::Tensor activate_gate(const torch::Tensor& gate_up, const std::string& name) {
  const auto function = gate_function(name);
  if (function && can_apply(gate_up)) return Gate::apply(gate_up, *function);
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
