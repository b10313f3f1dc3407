#include "completion/halves.h"

#include <torch/torch.h>

#include <algorithm>
#include <stdexcept>

#include "core/error.h"

namespace deeplora {
namespace {

/// Index of the factor after which the chain is cut: 0 cuts behind W_1.
size_t cut_after(const std::vector<Factor>& factors) {
  size_t cut = 0;
  for (size_t i = 1; i + 1 < factors.size(); ++i)
    if (factors[i].value.size(0) < factors[cut].value.size(0)) cut = i;
  return cut;
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
  output_ = {.tall = values[last], .tall_grad = grads[last], .small = {}, .small_grad = {}, .core = {}, .tall_back = back[last], .small_back = {}};
  for (size_t i = last - 1; i > cut; --i) {
    output_.small.push_back(values[i]);
    output_.small_grad.push_back(grads[i]);
    output_.small_back.push_back(back[i]);
  }
  input_ = {.tall = values[0].t(), .tall_grad = grads[0].t(), .small = {}, .small_grad = {}, .core = {}, .tall_back = back[0].t(), .small_back = {}};
  for (size_t i = 1; i <= cut; ++i) {
    input_.small.push_back(values[i].t());
    input_.small_grad.push_back(grads[i].t());
    input_.small_back.push_back(back[i].t());
  }
}

torch::Tensor ChainHalves::product(const std::vector<torch::Tensor>& factors, size_t from, size_t to, const torch::Tensor& like) {
  if (from >= to) return torch::eye(like.size(1), like.options());
  torch::Tensor out = factors[from];
  for (size_t i = from + 1; i < to; ++i) out = at::mm(out, factors[i]);
  return out;
}

void ChainHalves::write_half(Half& half, const torch::Tensor& out) {
  torch::Tensor to = out;
  if (half.small.empty()) {
    to.copy_(half.tall);
    return;
  }
  half.core = product(half.small, 0, half.small.size(), half.tall);
  at::mm_out(to, half.tall, half.core);
}

void ChainHalves::write(const torch::Tensor& b, const torch::Tensor& a_t) {
  torch::NoGradGuard no_grad;
  write_half(output_, b);
  write_half(input_, a_t);
}

void ChainHalves::write(Objective& objective) { write(objective.b(), objective.a_t()); }

void ChainHalves::gradient_of_half(Half& half, const torch::Tensor& upstream, double scale, bool output_side) {
  if (half.small.empty()) {
    at::mul_out(half.tall_grad, upstream, at::scalar_tensor(scale, upstream.options()));
    return;
  }
  // What lies nearer to the output comes back through `back`, what lies nearer to the input as it is.
  const auto& left = output_side ? half.small_back : half.small;
  const auto& right = output_side ? half.small : half.small_back;
  const size_t k = half.small.size();
  const torch::Tensor core = output_side ? half.core : product(right, 0, k, half.tall);
  at::addmm_out(half.tall_grad, half.tall_grad, upstream, core.t(), /*beta=*/0, /*alpha=*/scale);
  const torch::Tensor& tall = output_side ? half.tall_back : half.tall;
  torch::Tensor inner = at::mm(tall.t(), upstream).mul_(scale);  // dLoss/d(small_1 ... small_k)
  if (k == 1) {
    half.small_grad[0].copy_(inner);
    return;
  }
  for (size_t i = 0; i < k; ++i) {
    torch::Tensor grad = inner;
    if (i + 1 < k) grad = at::mm(grad, product(right, i + 1, k, half.tall).t());
    half.small_grad[i].copy_(grad);
    if (i + 1 < k) inner = at::mm(left[i].t(), inner);
  }
}

double ChainHalves::gradient(Objective& objective, double scale) {
  torch::NoGradGuard no_grad;
  write(objective);
  const double loss = objective.gradient();
  if (feedback_) {
    Half through = output_;
    through.tall = output_.tall_back;
    through.small = output_.small_back;
    write_half(through, objective.b());
    objective.propagate();
  }
  gradient_of_half(output_, objective.db(), scale, /*output_side=*/true);
  gradient_of_half(input_, objective.da_t(), scale, /*output_side=*/false);
  return loss;
}

}  // namespace deeplora
