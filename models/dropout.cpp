#include "models/dropout.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/torch.h>

#include "core/parallel.h"
#include "models/vector_loops.h"

namespace deeplora {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// x (float32, CPU, contiguous) through the mask, plus residual where it is defined.
torch::Tensor apply_mask(const torch::Tensor& x, const torch::Tensor& residual, double p, int64_t seed) {
  torch::Tensor out = torch::empty_like(x);
  float* to = out.mutable_data_ptr<float>();
  const float* from = x.const_data_ptr<float>();
  const float* beside = residual.defined() ? residual.const_data_ptr<float>() : nullptr;
  const uint32_t threshold = drop_threshold(p);
  const auto scale = static_cast<float>(1.0 / (1.0 - p));
  parallel_rows(x.numel(), 1, [&](int64_t begin, int64_t size) {
    masked_sum(to + begin, from + begin, beside ? beside + begin : nullptr, begin, size, static_cast<uint32_t>(seed),
               threshold, scale);
  });
  return out;
}

class DropoutAdd : public torch::autograd::Function<DropoutAdd> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x,
                               const std::optional<torch::Tensor>& residual, double p, int64_t seed) {
    ctx->saved_data["p"] = p;
    ctx->saved_data["seed"] = seed;
    ctx->saved_data["residual"] = residual.has_value();
    return apply_mask(x.contiguous(), residual ? residual->contiguous() : torch::Tensor(), p, seed);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const double p = ctx->saved_data["p"].toDouble();
    const int64_t seed = ctx->saved_data["seed"].toInt();
    torch::Tensor gx;
    if (ctx->needs_input_grad(0)) gx = apply_mask(gradients[0].contiguous(), {}, p, seed);
    return {gx, ctx->saved_data["residual"].toBool() ? gradients[0] : torch::Tensor(), {}, {}};
  }
};

bool is_plain(const torch::Tensor& x) {
  return x.device().is_cpu() && x.scalar_type() == torch::kFloat32 && x.numel() > 0 && x.numel() <= INT32_MAX;
}

}  // namespace

int64_t draw_dropout_seed() {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return at::check_generator<at::CPUGeneratorImpl>(generator)->random();
}

torch::Tensor dropout_add(const torch::Tensor& x, const torch::Tensor& residual, double p) {
  if (p <= 0) return x + residual;
  if (x.device().is_cpu() && x.scalar_type() == torch::kBFloat16)
    return dropout_add(x.to(torch::kFloat32), residual, p);  // from autocast
  if (!is_plain(x) || !is_plain(residual)) return at::dropout(x, p, /*train=*/true) + residual;
  return DropoutAdd::apply(x, std::optional(residual), p, draw_dropout_seed());
}

torch::Tensor seeded_dropout(const torch::Tensor& x, double p) {
  if (p <= 0) return x;
  if (!is_plain(x)) return at::dropout(x, p, /*train=*/true);
  return DropoutAdd::apply(x, std::optional<torch::Tensor>(), p, draw_dropout_seed());
}

}  // namespace deeplora
