#include "completion/synthetic.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "factorization/initialization.h"

namespace deeplora {
namespace {

/// (left_i . right_j) at the observed places, a slice at a time.
torch::Tensor products_at(const torch::Tensor& left, const torch::Tensor& right, const Observations& observed) {
  torch::Tensor out = torch::empty({observed.count()}, torch::kFloat64);
  constexpr int64_t kSlice = 1 << 18;
  for (int64_t from = 0; from < observed.count(); from += kSlice) {
    const int64_t size = std::min(kSlice, observed.count() - from);
    const torch::Tensor l = left.index_select(0, observed.row.narrow(0, from, size));
    const torch::Tensor r = right.index_select(0, observed.col.narrow(0, from, size));
    out.narrow(0, from, size).copy_((l * r).sum(1));
  }
  return out;
}

torch::Tensor core_of(const torch::Tensor& columns) { return std::get<1>(at::linalg_qr(columns, "r")); }

}  // namespace

torch::Tensor draw_places(int64_t all, int64_t wanted, at::Generator generator, int64_t listable) {
  if (all <= listable) return std::get<0>(at::sort(at::randperm(all, generator, torch::kInt64).narrow(0, 0, wanted)));
  if (wanted > all / 2) {
    // Drawing until nearly every place has come up would take for ever: draw those that are left out.
    const torch::Tensor out = draw_places(all, all - wanted, std::move(generator), listable);
    const torch::Tensor kept = torch::ones({all}, torch::kBool).index_fill_(0, out, false);
    return at::nonzero(kept).squeeze(1);
  }
  torch::Tensor drawn = torch::empty({0}, torch::kInt64);
  while (drawn.numel() < wanted)
    drawn =
        std::get<0>(at::_unique(at::cat({drawn, at::randint(all, {wanted - drawn.numel()}, generator, torch::kInt64)}),
                                /*sorted=*/true, false));
  return drawn;
}

torch::Tensor LowRankTarget::at(const Observations& observed) const { return products_at(u, v, observed); }

LowRankTarget gaussian_target(int64_t rows, int64_t cols, int64_t rank, at::Generator generator) {
  torch::NoGradGuard no_grad;
  const torch::Tensor all = at::randn({rows, cols}, generator, torch::kFloat64);
  const auto [u, s, vt] = at::linalg_svd(all, /*full_matrices=*/false);
  return {(u.narrow(1, 0, rank) * s.narrow(0, 0, rank)).contiguous(), vt.narrow(0, 0, rank).t().contiguous()};
}

LowRankTarget factor_target(int64_t rows, int64_t cols, int64_t rank, at::Generator generator) {
  torch::NoGradGuard no_grad;
  const double value = std::sqrt(static_cast<double>(rows)) + std::sqrt(static_cast<double>(cols));
  const torch::Tensor u = random_semi_orthogonal(rows, rank, generator, torch::kFloat64);
  return {u * value, random_semi_orthogonal(cols, rank, generator, torch::kFloat64)};
}

Observations observe(const LowRankTarget& target, double share, double noise, at::Generator generator) {
  torch::NoGradGuard no_grad;
  const int64_t n = target.cols(), all = target.rows() * n;
  const int64_t wanted = std::clamp<int64_t>(std::llround(share * static_cast<double>(all)), 1, all);
  const torch::Tensor places = draw_places(all, wanted, generator);
  const torch::Tensor row = at::floor_divide(places, n).to(torch::kInt32),
                      col = at::remainder(places, n).to(torch::kInt32);
  Observations out = Observations::make(target.rows(), n, row, col, torch::zeros({wanted}, torch::kFloat64));
  torch::Tensor values = target.at(out);
  if (noise > 0) values += noise * at::randn({wanted}, generator, torch::kFloat64);
  return out.with_values(values);
}

RecoveryMeter::RecoveryMeter(LowRankTarget target, Observations observed)
    : target_(std::move(target)), zeros_(observed.with_values(torch::zeros_like(observed.value))) {}

double RecoveryMeter::everywhere(const torch::Tensor& left, const torch::Tensor& right) const {
  if (2 * left.size(1) >= std::min(left.size(0), right.size(0)))
    return at::matmul(left, right.t()).square().sum().item<double>();
  return at::matmul(core_of(left), core_of(right).t()).square().sum().item<double>();
}

double RecoveryMeter::operator()(const torch::Tensor& b, const torch::Tensor& a_t) {
  torch::NoGradGuard no_grad;
  // W - M = left right^T
  const torch::Tensor left = at::cat({b.to(torch::kFloat64), -target_.u}, 1),
                      right = at::cat({a_t.to(torch::kFloat64), target_.v}, 1);
  const double entries = static_cast<double>(target_.rows()) * static_cast<double>(target_.cols());
  const double unobserved = entries - static_cast<double>(zeros_.count());
  const double all = everywhere(left, right);
  if (unobserved < 1) return all / 2 / entries;
  if (!on_seen_ || on_seen_->width() != left.size(1))
    on_seen_ = std::make_unique<Residuals>(zeros_, left.size(1), torch::kFloat64);
  on_seen_->b().copy_(left);
  on_seen_->a_t().copy_(right);
  return std::max(0.0, all / 2 - on_seen_->value()) / unobserved;
}

}  // namespace deeplora
