// `optimizer: auto`. Nonlinear conjugate gradients (Polak-Ribiere with restarts) on the two halves of the chain, with
// the gradients preconditioned by the other half's Gram matrix (Tong, Ma, Chi 2021, "ScaledGD"; Mishra and Sepulchre
// 2014) and step lengths that minimise the loss along the direction exactly: it is a polynomial of degree four. The
// rank grows from the leading directions of the gradient, one group at a time, whenever a rank is exhausted. That keeps
// the bias to low rank that small starts give plain gradient descent: directions are learnt in the order of their
// singular values.
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "completion/start.h"
#include "completion/stepper.h"
#include "core/error.h"
#include "core/random.h"

namespace deeplora {
namespace {

/// A rank is exhausted after this many iterations in a row that lower the loss by less than the share.
constexpr int64_t kSlowIterations = 3, kStalledIterations = 10;
constexpr double kSlowShare = 5e-3;

double dot_of(const torch::Tensor& x, const torch::Tensor& y) { return (x * y).sum(torch::kFloat64).item<double>(); }

double evaluate_polynomial(const std::array<double, 5>& c, double t) {
  return c[0] + t * (c[1] + t * (c[2] + t * (c[3] + t * c[4])));
}

/// The t > 0 with the smallest value of the polynomial; 0 when it does not fall at 0. Real roots of the derivative, a
/// cubic, by the trigonometric or Cardano's formula, each polished by Newton's method.
double minimiser(const std::array<double, 5>& c) {
  if (!(c[1] < 0)) return 0;
  const double scale = c[2] > 0 ? -c[1] / (2 * c[2]) : 1;  // the quadratic's step; t = scale x
  const double d3 = 4 * c[4] * scale * scale * scale, d2 = 3 * c[3] * scale * scale, d1 = 2 * c[2] * scale, d0 = c[1];
  std::vector<double> roots;
  if (std::abs(d3) < 1e-14 * std::max({std::abs(d2), std::abs(d1), std::abs(d0)})) {
    roots.push_back(1);
  } else {
    const double a = d2 / d3, b = d1 / d3, e = d0 / d3, q = (a * a - 3 * b) / 9,
                 r = (2 * a * a * a - 9 * a * b + 27 * e) / 54;
    if (r * r < q * q * q) {
      const double theta = std::acos(std::clamp(r / std::sqrt(q * q * q), -1.0, 1.0)), size = -2 * std::sqrt(q);
      for (int k = -1; k <= 1; ++k) roots.push_back(size * std::cos((theta + 2 * M_PI * k) / 3) - a / 3);
    } else {
      const double big = -std::copysign(std::cbrt(std::abs(r) + std::sqrt(r * r - q * q * q)), r);
      roots.push_back(big + (big != 0 ? q / big : 0) - a / 3);
    }
  }
  double best = 0, least = c[0];
  for (double x : roots) {
    for (int i = 0; i < 3; ++i) {
      const double slope = d1 + x * (2 * d2 + x * 3 * d3);
      if (slope != 0) x -= (d0 + x * (d1 + x * (d2 + x * d3))) / slope;
    }
    const double value = evaluate_polynomial(c, x * scale);
    if (x > 0 && value < least) {
      best = x * scale;
      least = value;
    }
  }
  return best;
}

/// How many leading values, at least one, form a group of their own; see AutoStepper::grow().
int64_t outstanding(const torch::Tensor& falling, double edge) {
  constexpr double kGap = 1.15;
  const double* s = falling.const_data_ptr<double>();
  int64_t sure = 0, before_gap = 1;
  double largest = kGap;
  for (int64_t k = 0; k < falling.numel(); ++k) {
    if (s[k] > 2 * edge) sure = k + 1;
    if (k + 1 == falling.numel() || s[k] <= edge || s[k] < largest * s[k + 1]) continue;
    largest = s[k] / s[k + 1];
    before_gap = k + 1;
  }
  return std::max(sure, before_gap);
}

/// x (gram + damping I)^-1 for x [rows, k].
torch::Tensor precondition(const torch::Tensor& x, const torch::Tensor& gram, double damping) {
  const torch::Tensor damped = gram.to(torch::kFloat64) + damping * torch::eye(gram.size(0), torch::kFloat64);
  const torch::Tensor inverse = at::cholesky_inverse(std::get<0>(at::linalg_cholesky_ex(damped)));
  return at::mm(x, inverse.to(x.scalar_type()));
}

class AutoStepper : public Stepper {
 public:
  AutoStepper(const Problem& problem, FactorChain chain, const FitConfig& config)
      : problem_(problem),
        config_(config),
        chain_(std::move(chain)),
        width_(std::min({chain_->width(), problem.rows, problem.cols})) {
    for (const auto& factor : chain_->factors())
      check(&factor == &chain_->factors().back() || factor.value.size(0) == chain_->width(),
            "completion.optimizer: auto needs one inner width");
    objective_ = problem.objective(width_, chain_->factors().front().value.scalar_type());
    check(2 * width_ <= std::min(problem.rows, problem.cols) || problem.rows * problem.cols <= 1 << 22,
          "completion.optimizer: auto works on the halves of a narrow chain, not on one of width ", width_,
          "; use gd, or method: deep, narrow or compressed");
    objective_->b().zero_();
    objective_->a_t().zero_();
    divisor_ = loss_divisor(config, problem, problem.count);
    decay_ = config.weight_decay * divisor_;
    first_loss_ = objective_->value();
  }

  double step(int64_t) override {
    torch::NoGradGuard no_grad;
    if (rank_ == 0 || (exhausted() && rank_ < width_)) grow();
    const double data_loss = objective_->gradient();
    const torch::Tensor b = active(objective_->b()), a_t = active(objective_->a_t());
    const double loss = data_loss + penalty(b, a_t);  // both of the point that the step starts from
    torch::Tensor gb = active(objective_->db()), ga = active(objective_->da_t());
    if (decay_ > 0) {
      gb = gb + decay_ * b;
      ga = ga + decay_ * a_t;
    }
    choose_direction(b, a_t, gb, ga);
    const double t = minimiser(coefficients(b, a_t));
    if (t > 0) {
      b.add_(active(p_), t);
      a_t.add_(active(q_), t);
    } else {
      gz_ = 0;  // not a way down: start again from the gradient
    }
    watch(loss);
    return data_loss / divisor_;
  }

  std::pair<torch::Tensor, torch::Tensor> halves() override { return {objective_->b(), objective_->a_t()}; }
  bool converged() const override { return converged_; }

  /// W = B A = U S V^T, shared evenly by the factors; the outer two of a compressed chain keep orthonormal columns.
  /// What a chain is wider than the matrix stays zero.
  void settle() override {
    torch::NoGradGuard no_grad;
    const auto [qb, rb] = at::linalg_qr(objective_->b().to(torch::kFloat64), "reduced");
    const auto [qa, ra] = at::linalg_qr(objective_->a_t().to(torch::kFloat64), "reduced");
    const auto [x, s, yt] = at::linalg_svd(at::matmul(rb, ra.t()), /*full_matrices=*/false);
    const auto& factors = chain_->factors();
    const bool framed = factors.front().name == "V";
    const auto sharing = static_cast<double>(factors.size() - (framed ? 2 : 0));
    const torch::Tensor root = s.pow(1 / sharing);
    for (size_t i = 0; i < factors.size(); ++i) {
      torch::Tensor value = torch::diag(root);
      if (i == 0) value = at::matmul(framed ? yt : root.unsqueeze(1) * yt, qa.t());
      if (i + 1 == factors.size()) value = at::matmul(qb, framed ? x : x * root);
      torch::Tensor factor = factors[i].value.detach();
      if (factor.sizes() != value.sizes()) factor.zero_();
      factor.narrow(0, 0, value.size(0)).narrow(1, 0, value.size(1)).copy_(value);
    }
  }

  std::vector<NamedTensor> state() const override {
    std::vector<NamedTensor> out = {{"halves/b", objective_->b().clone()}, {"halves/a_t", objective_->a_t().clone()}};
    if (p_.defined())
      out.insert(out.end(), {{"direction/b", p_.clone()},
                             {"direction/a_t", q_.clone()},
                             {"gradient/b", gb_.clone()},
                             {"gradient/a_t", ga_.clone()}});
    out.push_back({"numbers", torch::tensor({gz_, last_loss_, static_cast<double>(rank_), static_cast<double>(slow_),
                                             static_cast<double>(stalled_), static_cast<double>(converged_)},
                                            torch::kFloat64)});
    return out;
  }

  void restore(const std::vector<NamedTensor>& state) override {
    const auto take = [&](const std::string& name) {
      for (const auto& entry : state)
        if (entry.name == name) return entry.value.clone();
      return torch::Tensor();
    };
    const torch::Tensor numbers = take("numbers"), b = take("halves/b"), a_t = take("halves/a_t");
    check(numbers.defined() && numbers.numel() == 6 && b.defined() && b.sizes() == objective_->b().sizes() &&
              a_t.defined() && a_t.sizes() == objective_->a_t().sizes(),
          "the saved optimizer state does not fit this run");
    objective_->b().copy_(b);
    objective_->a_t().copy_(a_t);
    p_ = take("direction/b");
    q_ = take("direction/a_t");
    gb_ = take("gradient/b");
    ga_ = take("gradient/a_t");
    const double* n = numbers.const_data_ptr<double>();
    gz_ = n[0];
    last_loss_ = n[1];
    rank_ = static_cast<int64_t>(n[2]);
    slow_ = static_cast<int64_t>(n[3]);
    stalled_ = static_cast<int64_t>(n[4]);
    converged_ = n[5] != 0;
  }

 private:
  /// The columns in use.
  torch::Tensor active(const torch::Tensor& x) const { return x.narrow(1, 0, rank_); }
  bool exhausted() const { return slow_ >= kSlowIterations; }
  double penalty(const torch::Tensor& b, const torch::Tensor& a_t) const {
    return decay_ > 0 ? decay_ / 2 * (dot_of(b, b) + dot_of(a_t, a_t)) : 0;
  }

  void choose_direction(const torch::Tensor& b, const torch::Tensor& a_t, const torch::Tensor& gb,
                        const torch::Tensor& ga) {
    const torch::Tensor gram_a = at::mm(a_t.t(), a_t), gram_b = at::mm(b.t(), b);
    const double tiny = chain_->factors().front().value.scalar_type() == torch::kFloat64 ? 1e-12 : 1e-6;
    const double size = gram_a.diagonal().max().item<double>() + gram_b.diagonal().max().item<double>();
    const double damping = tiny * size + decay_ + std::numeric_limits<double>::min();
    const torch::Tensor zb = precondition(gb, gram_a, damping), za = precondition(ga, gram_b, damping);
    const double gz = dot_of(gb, zb) + dot_of(ga, za);
    double beta = 0;
    if (gz_ > 0 && gb_.defined() && gb_.size(1) == rank_)
      beta = std::max(0.0, (gz - dot_of(gb_, zb) - dot_of(ga_, za)) / gz_);
    if (!p_.defined()) {
      p_ = torch::zeros_like(objective_->b(), at::MemoryFormat::Contiguous);
      q_ = torch::zeros_like(objective_->a_t(), at::MemoryFormat::Contiguous);
    }
    torch::Tensor p = active(p_), q = active(q_);
    p.mul_(beta).sub_(zb);
    q.mul_(beta).sub_(za);
    if (beta > 0 && dot_of(p, gb) + dot_of(q, ga) >= 0) {
      p.copy_(zb).neg_();
      q.copy_(za).neg_();
    }
    gb_ = gb.clone();
    ga_ = ga.clone();
    gz_ = gz;
  }

  std::array<double, 5> coefficients(const torch::Tensor& b, const torch::Tensor& a_t) {
    auto c = objective_->along(p_, q_);
    if (decay_ > 0) {
      const torch::Tensor p = active(p_), q = active(q_);
      c[0] += penalty(b, a_t);
      c[1] += decay_ * (dot_of(b, p) + dot_of(a_t, q));
      c[2] += decay_ / 2 * (dot_of(p, p) + dot_of(q, q));
    }
    return c;
  }

  /// Counts iterations without gain.
  void watch(double loss) {
    const double gain = (last_loss_ - loss) / last_loss_;
    slow_ = gain < kSlowShare ? slow_ + 1 : 0;
    stalled_ = gain < config_.stall ? stalled_ + 1 : 0;
    if (!std::isfinite(last_loss_)) slow_ = stalled_ = 0;
    last_loss_ = loss;
    const bool exact = loss <= first_loss_ * (objective_->b().scalar_type() == torch::kFloat64 ? 1e-28 : 1e-13);
    converged_ = exact || (rank_ == width_ && stalled_ >= kStalledIterations);
  }

  /// Adds the leading directions of the residuals: as many as surely stand out from what residuals without structure
  /// would have (twice the edge of the spectrum of a sparse random matrix), or up to the largest gap above that edge;
  /// one at least.
  void grow() {
    const torch::Tensor b = objective_->b().clone(), a_t = objective_->a_t().clone();
    const double squares = 2 * objective_->value();
    const int64_t room = width_ - rank_;
    const SingularPairs pairs =
        leading_pairs_of(*objective_, width_, make_generator(static_cast<uint64_t>(config_.seed), cat("grow/", rank_)));
    const double m = static_cast<double>(problem_.rows), n = static_cast<double>(problem_.cols);
    const double edge =
        std::sqrt(squares * problem_.gain / static_cast<double>(problem_.count)) * (std::sqrt(m) + std::sqrt(n));
    const int64_t added = std::min(room, outstanding(pairs.s, edge));
    const torch::Tensor root = (pairs.s.narrow(0, 0, added) / problem_.gain).sqrt().to(b.scalar_type());
    b.narrow(1, rank_, added).copy_(-pairs.u.narrow(1, 0, added) * root);
    a_t.narrow(1, rank_, added).copy_(pairs.v.narrow(1, 0, added) * root);
    objective_->b().copy_(b);
    objective_->a_t().copy_(a_t);
    rank_ += added;
    slow_ = stalled_ = 0;
    gz_ = 0;
    last_loss_ = std::numeric_limits<double>::infinity();
  }

  const Problem& problem_;
  FitConfig config_;
  FactorChain chain_;
  int64_t width_,
      rank_ =
          0;  ///< columns of the halves: the chain's width, or the matrix' smaller side if that is less; those in use
  std::unique_ptr<Objective> objective_;
  double divisor_ = 1, decay_ = 0, first_loss_ = 0;
  torch::Tensor p_, q_;    ///< direction [m, w], [n, w]; zero beyond the rank
  torch::Tensor gb_, ga_;  ///< gradient of the last iteration [., rank then]
  double gz_ = 0;          ///< gradient . preconditioned gradient; 0 restarts
  double last_loss_ = std::numeric_limits<double>::infinity();
  int64_t slow_ = 0, stalled_ = 0;
  bool converged_ = false;
};

}  // namespace

std::unique_ptr<Stepper> make_auto_stepper(const Problem& problem, FactorChain chain, const FitConfig& config) {
  return std::make_unique<AutoStepper>(problem, std::move(chain), config);
}

}  // namespace deeplora
