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
      kept_pairs_(std::min({k + std::max<int64_t>(k, 8), rows, cols})),
      options_(options),
      generator_(std::move(generator)) {}

void StreamedPairs::add(const MatrixAction& term) {
  torch::NoGradGuard no_grad;
  switch (pass_) {
    case Pass::merge:
      merge(term);
      break;
    case Pass::range:
      range_.add_(term.times(kept_.v));
      break;
    case Pass::core:
      core_.add_(term.transposed_times(range_));
      break;
    case Pass::done:
      break;
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
    case Pass::merge:
      pass_ = terms_ == 1 || kept_pairs_ == std::min(rows_, cols_) ? Pass::done : Pass::range;
      if (pass_ == Pass::done) break;
      kept_.u.reset();
      range_ = at::zeros({rows_, kept_pairs_}, options_);
      break;
    case Pass::range:
      kept_ = {};
      range_ = std::get<0>(at::linalg_qr(range_, "reduced"));
      core_ = at::zeros({cols_, kept_pairs_}, options_);
      pass_ = Pass::core;
      break;
    case Pass::core: {
      // M ~ Q core^T with core = v s w^T, so u = Q w.
      const auto [v, s, wt] = at::linalg_svd(core_, /*full_matrices=*/false);
      kept_ = {at::matmul(range_, wt.t()), s, v};
      range_ = core_ = torch::Tensor();
      pass_ = Pass::done;
      break;
    }
    case Pass::done:
      break;
  }
  return pass_ != Pass::done;
}

SingularPairs StreamedPairs::pairs() const {
  if (pass_ != Pass::done) throw std::logic_error("singular pairs before the last pass");
  return {kept_.u.narrow(1, 0, k_).contiguous(), kept_.s.narrow(0, 0, k_).contiguous(),
          kept_.v.narrow(1, 0, k_).contiguous()};
}

}  // namespace deeplora
