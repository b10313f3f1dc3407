#include "models/norms.h"

#include <torch/torch.h>

#include "core/parallel.h"
#include "models/dropout.h"
#include "models/vector_loops.h"

namespace deeplora {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Calls run(task, first row) for stretches of rows, on all threads.
template <class Run>
void each_norm_task(const torch::Tensor& weight, const torch::Tensor& bias, int64_t elements, double eps,
                    double dropout, int64_t seed, const Run& run) {
  const int64_t width = weight.size(0);
  const float *scales = weight.const_data_ptr<float>(), *shifts = bias.const_data_ptr<float>();
  parallel_rows(elements / width, width, [&](int64_t row, int64_t rows) {
    run(NormTask{rows, width, scales, shifts, static_cast<float>(eps), row * width, static_cast<uint32_t>(seed),
                 dropout > 0 ? drop_threshold(dropout) : 0U, static_cast<float>(1.0 / (1.0 - dropout))},
        row);
  });
}

/// LayerNorm(residual + dropout(x)), all [..., D] float32 on the CPU, weight and bias [D] frozen. Keeps the sum and two
/// numbers for each row.
class NormOfSum : public torch::autograd::Function<NormOfSum> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x, const torch::Tensor& residual,
                               const torch::Tensor& weight, const torch::Tensor& bias, double eps, double dropout,
                               int64_t seed) {
    torch::Tensor out = torch::empty_like(x), sums = torch::empty_like(x),
                  stats = torch::empty({x.numel() / x.size(-1), 2}, x.options());
    float *to = out.mutable_data_ptr<float>(), *sum = sums.mutable_data_ptr<float>(),
          *stat = stats.mutable_data_ptr<float>();
    const float *from = x.const_data_ptr<float>(), *beside = residual.const_data_ptr<float>();
    each_norm_task(weight, bias, x.numel(), eps, dropout, seed, [&](const NormTask& task, int64_t row) {
      const int64_t at = row * task.width;
      norm_rows(task, to + at, sum + at, stat + 2 * row, from + at, beside + at);
    });
    ctx->save_for_backward({sums, stats, weight, bias});
    ctx->saved_data["dropout"] = dropout;
    ctx->saved_data["seed"] = seed;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const torch::Tensor &sums = saved[0], &stats = saved[1], g = gradients[0].contiguous();
    const double dropout = ctx->saved_data["dropout"].toDouble();
    torch::Tensor gr = torch::empty_like(sums), gx = dropout > 0 ? torch::empty_like(sums) : gr;
    float *to_x = gx.mutable_data_ptr<float>(), *to_residual = gr.mutable_data_ptr<float>();
    const float *down = g.const_data_ptr<float>(), *sum = sums.const_data_ptr<float>(),
                *stat = stats.const_data_ptr<float>();
    each_norm_task(saved[2], saved[3], sums.numel(), 0, dropout, ctx->saved_data["seed"].toInt(),
                   [&](const NormTask& task, int64_t row) {
                     const int64_t at = row * task.width;
                     norm_rows_backward(task, to_x + at, to_residual + at, down + at, sum + at, stat + 2 * row);
                   });
    return {gx, gr, {}, {}, {}, {}, {}};
  }
};

/// x weight / sqrt(mean(x^2) + eps), x [..., D] float32 on the CPU, weight [D] frozen. Keeps x and one number for each
/// row.
class RmsNorm : public torch::autograd::Function<RmsNorm> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x, const torch::Tensor& weight, double eps) {
    const int64_t width = x.size(-1), rows = x.numel() / width;
    torch::Tensor out = torch::empty_like(x), inverse = torch::empty({rows}, x.options());
    float *to = out.mutable_data_ptr<float>(), *factors = inverse.mutable_data_ptr<float>();
    const float *from = x.const_data_ptr<float>(), *scales = weight.const_data_ptr<float>();
    parallel_rows(rows, width, [&](int64_t first, int64_t count) {
      rms_rows(to + first * width, factors + first, from + first * width, scales, count, width,
               static_cast<float>(eps));
    });
    ctx->save_for_backward({x, weight, inverse});
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const torch::Tensor &x = saved[0], g = gradients[0].contiguous();
    const int64_t width = x.size(-1);
    torch::Tensor gx = torch::empty_like(x);
    float* to = gx.mutable_data_ptr<float>();
    const float *down = g.const_data_ptr<float>(), *from = x.const_data_ptr<float>(),
                *scales = saved[1].const_data_ptr<float>();
    const float* factors = saved[2].const_data_ptr<float>();
    parallel_rows(x.numel() / width, width, [&](int64_t first, int64_t count) {
      rms_rows_backward(to + first * width, down + first * width, from + first * width, factors + first, scales, count,
                        width);
    });
    return {gx, {}, {}};
  }
};

bool is_contiguous_float(const torch::Tensor& x) {
  return x.device().is_cpu() && x.scalar_type() == torch::kFloat32 && x.is_contiguous() && x.numel() > 0 &&
         x.numel() <= INT32_MAX;
}

}  // namespace

torch::Tensor norm_of_sum(const torch::Tensor& x, const torch::Tensor& residual, const torch::Tensor& weight,
                          const torch::Tensor& bias, double eps, double p) {
  const bool frozen = bias.defined() && !weight.requires_grad() && !bias.requires_grad() &&
                      is_contiguous_float(weight) && is_contiguous_float(bias);
  if (!frozen || !is_contiguous_float(x) || !is_contiguous_float(residual) || x.sizes() != residual.sizes())
    return at::layer_norm(dropout_add(x, residual, p), {x.size(-1)}, weight, bias, eps);
  return NormOfSum::apply(x, residual, weight, bias, eps, p, p > 0 ? draw_dropout_seed() : 0);
}

FrozenLayerNormImpl::FrozenLayerNormImpl(WeightMap& weights, const std::string& name, int64_t width, double eps,
                                         bool biased)
    : eps_(eps) {
  weight_ = register_parameter("weight", weights.take(name + ".weight", {width}), /*requires_grad=*/false);
  if (biased) bias_ = register_parameter("bias", weights.take(name + ".bias", {width}), /*requires_grad=*/false);
}

torch::Tensor FrozenLayerNormImpl::forward(const torch::Tensor& x) const {
  return at::layer_norm(x, {x.size(-1)}, weight_, bias_, eps_);
}

FrozenRmsNormImpl::FrozenRmsNormImpl(WeightMap& weights, const std::string& name, int64_t width, double eps,
                                     double offset)
    : eps_(eps), offset_(offset) {
  weight_ = register_parameter("weight", weights.take(name + ".weight", {width}), /*requires_grad=*/false);
}

torch::Tensor FrozenRmsNormImpl::forward(const torch::Tensor& x) const {
  return rms_norm(x, offset_ == 0 ? weight_ : weight_ + offset_, eps_);
}

torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  if (is_contiguous_float(x) && is_contiguous_float(weight) && !weight.requires_grad())
    return RmsNorm::apply(x, weight, eps);
  return x * (x.square().mean(-1, /*keepdim=*/true) + eps).rsqrt() * weight;
}

}  // namespace deeplora
