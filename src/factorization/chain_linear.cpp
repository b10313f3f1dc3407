#include "factorization/chain_linear.h"

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

namespace deeplora {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Casts are ours to choose below.
using NoAutocast = c10::impl::ExcludeDispatchKeyGuard;

torch::Tensor flat(const torch::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

class ChainLinear : public torch::autograd::Function<ChainLinear> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x, at::TensorList factors, const torch::Tensor& weight,
                               const std::optional<torch::Tensor>& bias, double scale, at::ScalarType dtype) {
    const NoAutocast guard(c10::autocast_dispatch_keyset);
    const torch::Tensor input = flat(x).to(dtype), wide = weight.to(dtype);
    torch::Tensor y = bias ? at::addmm(bias->to(dtype), input, wide.t()) : at::mm(input, wide.t());
    std::vector<torch::Tensor> hidden{input};
    for (const auto& factor : factors.slice(0, factors.size() - 1)) hidden.push_back(at::mm(hidden.back(), factor.to(dtype).t()));
    y.addmm_(hidden.back(), factors.back().to(dtype).t(), 1, scale);
    variable_list saved{wide};
    saved.insert(saved.end(), factors.begin(), factors.end());
    saved.insert(saved.end(), hidden.begin(), hidden.end());
    ctx->save_for_backward(saved);
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["shape"] = x.sizes();
    ctx->saved_data["input_dtype"] = static_cast<int64_t>(x.scalar_type());
    auto shape = x.sizes().vec();
    shape.back() = weight.size(0);
    return y.view(shape);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const NoAutocast guard(c10::autocast_dispatch_keyset);
    const auto saved = ctx->get_saved_variables();
    const size_t depth = (saved.size() - 1) / 2;
    const torch::Tensor& weight = saved[0];
    const torch::Tensor* factors = &saved[1];
    const torch::Tensor* hidden = &saved[1 + depth];
    const double scale = ctx->saved_data["scale"].toDouble();
    const at::ScalarType dtype = weight.scalar_type();
    const torch::Tensor g = flat(gradients[0]).to(dtype);
    variable_list out(1 + depth + 4);  // x, factors, then what is frozen or no tensor
    torch::Tensor d = g;  // gradient of hidden[k + 1], [N, d_{k+1}]
    for (size_t k = depth; k-- > 0;) {
      const bool last = k + 1 == depth;
      if (ctx->needs_input_grad(1 + k)) {
        const torch::Tensor product = at::mm(d.t(), hidden[k]).to(factors[k].scalar_type());
        out[1 + k] = last && scale != 1 ? product * scale : product;
      }
      if (k == 0) break;
      d = at::mm(d, factors[k].to(dtype));
      if (last && scale != 1) d.mul_(scale);
    }
    if (ctx->needs_input_grad(0)) {
      torch::Tensor gx = at::mm(g, weight);
      gx.addmm_(d, factors[0].to(dtype), 1, depth == 1 ? scale : 1.0);
      out[0] = gx.view(ctx->saved_data["shape"].toIntVector()).to(static_cast<at::ScalarType>(ctx->saved_data["input_dtype"].toInt()));
    }
    return out;
  }
};

at::ScalarType computing_dtype(const torch::Tensor& x) {
  const auto device = x.device().type();
  return at::autocast::is_autocast_enabled(device) ? at::autocast::get_autocast_dtype(device) : x.scalar_type();
}

}  // namespace

bool can_fuse_chain(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, const std::vector<torch::Tensor>& factors) {
  if (weight.requires_grad() || (bias.defined() && bias.requires_grad()) || x.dim() < 2 || x.numel() == 0) return false;
  if (at::autocast::is_autocast_enabled(x.device().type())) return x.is_floating_point() && x.scalar_type() != torch::kFloat64;
  for (const auto& factor : factors)
    if (factor.scalar_type() != x.scalar_type()) return false;
  return weight.scalar_type() == x.scalar_type() && (!bias.defined() || bias.scalar_type() == x.scalar_type());
}

torch::Tensor linear_with_chain(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                                const std::vector<torch::Tensor>& factors, double scale) {
  return ChainLinear::apply(x, at::TensorList(factors), weight, bias.defined() ? std::optional(bias) : std::nullopt, scale, computing_dtype(x));
}

}  // namespace deeplora
