#include "models/activation.h"

#include <torch/torch.h>

#include "core/parallel.h"
#include "models/vector_loops.h"

namespace deeplora {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

RowsView from_row(const torch::Tensor& x, int64_t row) { return {x.const_data_ptr<float>() + row * x.stride(0), x.stride(0)}; }

/// silu(gate) up
class SiluGate : public torch::autograd::Function<SiluGate> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& gate, const torch::Tensor& up) {
    torch::Tensor out = torch::empty({gate.size(0), gate.size(1)}, gate.options());
    float* to = out.mutable_data_ptr<float>();
    parallel_rows(gate.size(0), gate.size(1), [&](int64_t row, int64_t rows) {
      gate_rows(to + row * gate.size(1), from_row(gate, row), from_row(up, row), rows, gate.size(1));
    });
    ctx->save_for_backward({gate, up});
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const torch::Tensor &gate = saved[0], &up = saved[1], g = gradients[0].contiguous();
    const int64_t width = gate.size(1);
    torch::Tensor joined = torch::empty({gate.size(0), 2 * width}, gate.options());  // side by side: a joined projection takes them as one
    float* to = joined.mutable_data_ptr<float>();
    const float* down = g.const_data_ptr<float>();
    parallel_rows(gate.size(0), gate.size(1), [&](int64_t row, int64_t rows) {
      float* at = to + row * 2 * width;
      gate_rows_backward(at, at + width, 2 * width, down + row * width, from_row(gate, row), from_row(up, row), rows, width);
    });
    return at::unsafe_split(joined, width, 1);
  }
};

bool has_float_rows(const torch::Tensor& x) {
  return x.device().is_cpu() && x.scalar_type() == torch::kFloat32 && x.dim() == 2 && x.stride(1) == 1 && x.numel() > 0;
}

}  // namespace

torch::Tensor activate(const torch::Tensor& x, const std::string& name) {
  if (name == "gelu") return at::gelu(x);
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return at::gelu(x, "tanh");
  if (name == "quick_gelu") return x * at::sigmoid(1.702 * x);
  if (name == "relu") return at::relu(x);
  if (name == "silu" || name == "swish") return at::silu(x);
  return at::tanh(x);
}

torch::Tensor activate_gate(const torch::Tensor& gate, const torch::Tensor& up, const std::string& name) {
  const bool silu = name == "silu" || name == "swish";
  if (silu && has_float_rows(gate) && has_float_rows(up) && gate.sizes() == up.sizes()) return SiluGate::apply(gate, up);
  return activate(gate, name) * up;
}

std::optional<InputFunction> input_function(const std::string& name) {
  if (name == "gelu") return InputFunction::gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return InputFunction::gelu_tanh;
  return std::nullopt;
}

}  // namespace deeplora
