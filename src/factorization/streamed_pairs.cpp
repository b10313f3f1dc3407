#include "factorization/streamed_pairs.h"

#include <torch/torch.h>

#include <algorithm>
#include <stdexcept>

namespace deeplora {
StreamedPairs::StreamedPairs(int64_t rows, int64_t cols, int64_t k, torch::TensorOptions options,
                             at::Generator generator)
    : rows_(rows),
      cols_(cols),
      k_(std::min({k, rows, cols})),
      kept_pairs_(std::min({k + std::max<int64_t>(k, 16), rows, cols})),
      options_(options),
      generator_(std::move(generator)) {}

void StreamedPairs::add(const MatrixAction& term) {
  torch::NoGradGuard no_grad;
  if (pass_ == Pass::merge) {
    merge(term);
  } else if (pass_ != Pass::done) {
    left_.add_(term.times(kept_.v));
    right_.add_(term.transposed_times(kept_.u));
  }
}

void StreamedPairs::merge(const MatrixAction& term) {
  ++terms_;
  if (terms_ == 1) {
    kept_ = leading_singular_pairs(term, kept_pairs_, generator_);
    return;
  }
  const SingularPairs& old = kept_;
  const MatrixAction sum{
      rows_, cols_, options_,
      [&](const torch::Tensor& right) {
        return term.times(right).add_(at::matmul(old.u * old.s, at::matmul(old.v.t(), right)));
      },
      [&](const torch::Tensor& left) {
        return term.transposed_times(left).add_(at::matmul(old.v * old.s, at::matmul(old.u.t(), left)));
      }};
  kept_ = leading_singular_pairs(sum, kept_pairs_, generator_);
}

bool StreamedPairs::end_pass() {
  torch::NoGradGuard no_grad;
  if (terms_ == 0) throw std::logic_error("no terms");
  switch (pass_) {
    case Pass::merge: pass_ = terms_ == 1 || kept_pairs_ == std::min(rows_, cols_) ? Pass::done : Pass::iterate; break;
    case Pass::iterate:
      kept_.u = orthonormal_basis(left_);
      kept_.v = orthonormal_basis(right_);
      pass_ = Pass::combine;
      break;
    case Pass::combine:
      kept_ = combined();
      left_.reset();
      right_.reset();
      pass_ = Pass::done;
      break;
    case Pass::done: break;
  }
  if (pass_ == Pass::done) return false;
  left_ = at::zeros({rows_, kept_pairs_}, options_);
  right_ = at::zeros({cols_, kept_pairs_}, options_);
  return true;
}

SingularPairs StreamedPairs::combined() const {
  // left = M V and right = M^T U: each has gone one half step further than the other side's basis.
  const torch::Tensor u = std::get<0>(at::linalg_svd(left_, /*full_matrices=*/false)).narrow(1, 0, k_),
                      v = std::get<0>(at::linalg_svd(right_, /*full_matrices=*/false)).narrow(1, 0, k_);
  // u^T M v, with u seen through the basis U, pairs the two and turns each within its span.
  const torch::Tensor core = at::matmul(at::matmul(u.t(), kept_.u), at::matmul(right_.t(), v));
  const auto [a, s, bt] = at::linalg_svd(core, /*full_matrices=*/false);
  return {at::matmul(u, a), s, at::matmul(v, bt.t())};
}

SingularPairs StreamedPairs::pairs() const {
  if (pass_ != Pass::done) throw std::logic_error("singular pairs before the last pass");
  return {kept_.u.narrow(1, 0, k_).contiguous(), kept_.s.narrow(0, 0, k_).contiguous(),
          kept_.v.narrow(1, 0, k_).contiguous()};
}

}  // namespace deeplora
