#include "completion/halves.h"

#include <torch/torch.h>

#include <algorithm>
#include <stdexcept>

#include "core/error.h"
#include "core/parallel.h"

namespace deeplora {
namespace {

/// Index of the factor after which the chain is cut: 0 cuts behind W_1.
size_t cut_after(const std::vector<Factor>& factors) {
  size_t cut = 0;
  for (size_t i = 1; i + 1 < factors.size(); ++i)
    if (factors[i].value.size(0) < factors[cut].value.size(0)) cut = i;
  return cut;
}

/// to = beta x to + alpha x from for matrices [n, r] of which one is stored by columns, the other by rows (strides of
/// at least r): the layouts of an input factor and of a problem's half. A stretch of rows stays in the first cache
/// meanwhile.
template <class T>
void combine_across(T* to, int64_t to_row, int64_t to_col, const T* from, int64_t from_row, int64_t from_col, int64_t n,
                    int64_t r, T beta, T alpha) {
  constexpr int64_t kStretch = 64;
  for (int64_t begin = 0; begin < n; begin += kStretch) {
    const int64_t end = std::min(n, begin + kStretch);
    for (int64_t k = 0; k < r; ++k) {
      T* t = to + k * to_col;
      const T* f = from + k * from_col;
      if (beta == 0)
        for (int64_t j = begin; j < end; ++j) t[j * to_row] = alpha * f[j * from_row];
      else
        for (int64_t j = begin; j < end; ++j) t[j * to_row] = beta * t[j * to_row] + alpha * f[j * from_row];
    }
  }
}

void combine(torch::Tensor& to, const torch::Tensor& from, double beta, double alpha) {
  constexpr int64_t kRowsPerPart = 1 << 14;
  const int64_t n = to.size(0), r = to.size(1), parts = std::clamp<int64_t>(n / kRowsPerPart, 1, parallel_threads());
  AT_DISPATCH_FLOATING_TYPES(to.scalar_type(), "combine", [&] {
    parallel_parts(parts, [&](int64_t part) {
      const int64_t begin = n * part / parts, end = n * (part + 1) / parts;
      combine_across<scalar_t>(to.mutable_data_ptr<scalar_t>() + begin * to.stride(0), to.stride(0), to.stride(1),
                               from.const_data_ptr<scalar_t>() + begin * from.stride(0), from.stride(0), from.stride(1),
                               end - begin, r, static_cast<scalar_t>(beta), static_cast<scalar_t>(alpha));
    });
  });
}

}  // namespace

ChainHalves::ChainHalves(FactorChain chain, std::vector<torch::Tensor> feedback)
    : chain_(std::move(chain)), feedback_(!feedback.empty()) {
  const auto& factors = chain_->factors();
  if (factors.size() < 2 || chain_->scale() != 1)
    throw std::invalid_argument(cat("halves of a chain of ", factors.size(), " factors and scale ", chain_->scale()));
  if (feedback_ && feedback.size() != factors.size())
    throw std::invalid_argument(cat(feedback.size(), " feedback matrices for ", factors.size(), " factors"));
  torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> values, grads, back;
  for (size_t i = 0; i < factors.size(); ++i) {
    torch::Tensor value = factors[i].value;
    value.mutable_grad() = torch::zeros_like(value);
    values.push_back(value.detach());
    grads.push_back(value.grad());
    back.push_back(feedback_ ? feedback[i] : values.back());
    if (back.back().sizes() != value.sizes())
      throw std::invalid_argument(cat("feedback ", back.back().sizes(), " for a factor ", value.sizes()));
  }
  const size_t cut = cut_after(factors), last = factors.size() - 1;
  width_ = values[cut].size(0);
  const auto part = [&](size_t i, bool transposed) {
    const auto seen = [transposed](const torch::Tensor& t) { return transposed ? t.t() : t; };
    return Part{seen(values[i]), seen(back[i]), seen(grads[i]), factors[i].lr_scale, {}};
  };
  output_.tall = part(last, false);
  for (size_t i = last - 1; i > cut; --i) output_.small.push_back(part(i, false));
  input_.tall = part(0, true);
  for (size_t i = 1; i <= cut; ++i) input_.small.push_back(part(i, true));
}

torch::Tensor ChainHalves::core_of(const Half& half, torch::Tensor Part::* which, size_t from) {
  torch::Tensor out = half.small[from].*which;
  for (size_t i = from + 1; i < half.small.size(); ++i) out = at::mm(out, half.small[i].*which);
  return out;
}

void ChainHalves::write_half(Half& half, const torch::Tensor& out) {
  torch::Tensor to = out;
  if (half.small.empty()) {
    combine(to, half.tall.value, 0, 1);
    return;
  }
  half.core = core_of(half, &Part::value);
  at::mm_out(to, half.tall.value, half.core);
}

void ChainHalves::write(const torch::Tensor& b, const torch::Tensor& a_t) {
  torch::NoGradGuard no_grad;
  write_half(output_, b);
  write_half(input_, a_t);
}

void ChainHalves::write(Objective& objective) { write(objective.b(), objective.a_t()); }

void ChainHalves::update_half(Half& half, const torch::Tensor& upstream, bool output_side) {
  const size_t k = half.small.size();
  if (k == 0) {
    if (half.tall.update.to.defined())
      combine(half.tall.update.to, upstream, half.tall.update.beta, half.tall.update.alpha);
    return;
  }
  // What lies nearer to the output comes back through `back`, what lies nearer to the input as it is.
  const auto left = output_side ? &Part::back : &Part::value, right = output_side ? &Part::value : &Part::back;
  const torch::Tensor core = output_side ? half.core : core_of(half, right);
  std::vector<torch::Tensor> grads{at::mm((half.tall.*left).t(), upstream)};  // dLoss/d(small_1 ... small_k) first
  for (size_t i = 0; i + 1 < k; ++i) {
    grads.push_back(at::mm((half.small[i].*left).t(), grads[i]));
    grads[i] = at::mm(grads[i], core_of(half, right, i + 1).t());
  }
  // Every gradient is known before any factor moves.
  Update& tall = half.tall.update;
  if (tall.to.defined()) at::addmm_out(tall.to, tall.to, upstream, core.t(), tall.beta, tall.alpha);
  for (size_t i = 0; i < k; ++i) {
    Update& small = half.small[i].update;
    if (!small.to.defined()) continue;
    if (small.beta == 0) at::mul_out(small.to, grads[i], at::scalar_tensor(small.alpha, grads[i].options()));
    else if (small.beta == 1) small.to.add_(grads[i], small.alpha);
    else small.to.mul_(small.beta).add_(grads[i], small.alpha);
  }
}

double ChainHalves::backward(Objective& objective) {
  write(objective);
  const double loss = objective.gradient();
  if (feedback_) {
    torch::Tensor b = objective.b();
    if (output_.small.empty()) b.copy_(output_.tall.back);
    else at::mm_out(b, output_.tall.back, core_of(output_, &Part::back));
    objective.propagate();
  }
  update_half(output_, objective.db(), /*output_side=*/true);
  update_half(input_, objective.da_t(), /*output_side=*/false);
  return loss;
}

double ChainHalves::gradient(Objective& objective, double scale) {
  torch::NoGradGuard no_grad;
  for (Half* half : {&output_, &input_}) {
    half->tall.update = {half->tall.grad, 0, scale};
    for (Part& part : half->small) part.update = {part.grad, 0, scale};
  }
  return backward(objective);
}

double ChainHalves::descend(Objective& objective, double scale, double lr, double weight_decay) {
  torch::NoGradGuard no_grad;
  const auto aim = [&](Part& part) {
    part.update = {};
    if (part.lr_scale > 0)
      part.update = {part.value, 1 - lr * part.lr_scale * weight_decay, -scale * lr * part.lr_scale};
  };
  for (Half* half : {&output_, &input_}) {
    aim(half->tall);
    for (Part& part : half->small) aim(part);
  }
  return backward(objective);
}

}  // namespace deeplora
