#include "ratings/chain_ratings.h"

#include <torch/torch.h>

#include <cmath>
#include <limits>

#include "completion/start.h"
#include "completion/stepper.h"
#include "core/random.h"

namespace deeplora {
namespace {

torch::Tensor tensor_of(const std::vector<int32_t>& values) { return torch::tensor(values, torch::kInt32); }

/// v - mean - biases, unclipped.
std::vector<double> residuals_of(const Ratings& train, RatingsModel biases) {
  biases.range.reset();
  std::vector<double> out(train.value);
  for (size_t i = 0; i < out.size(); ++i) out[i] -= biases.predict(train.row[i], train.col[i]);
  return out;
}

double root_mean_square(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v * v;
  return std::sqrt(sum / static_cast<double>(std::max<size_t>(1, values.size())));
}

class ChainFit {
 public:
  ChainFit(const Ratings& train, const RatingsModel& biases, const RatingsCandidate& candidate,
           const CompletionConfig& common)
      : train_(train), biases_(biases), config_(common) {
    config_.chain.rank = candidate.rank;
    config_.chain.depth = candidate.depth;
    config_.fit.weight_decay = candidate.regularization.value_or(common.fit.weight_decay);
    const auto residuals = residuals_of(train, biases);
    unit_ = root_mean_square(residuals);
    check(unit_ > 0, "the biases explain every rating: nothing is left for a chain");
    problem_ =
        completion_problem(Observations::make(train.rows.size(), train.cols.size(), tensor_of(train.row),
                                              tensor_of(train.col), torch::tensor(residuals, torch::kFloat64) / unit_));
    const auto pairs = leading_gradient_pairs(problem_, std::max<int64_t>(1, candidate.rank),
                                              make_generator(static_cast<uint64_t>(config_.fit.seed), "gradient"));
    const auto dtype = config_.fit.precision == "float32" ? torch::kFloat32 : torch::kFloat64;
    chain_ = start_chain(config_.chain, problem_, pairs, config_.fit.seed, torch::TensorOptions(dtype));
    stepper_ = make_stepper(problem_, chain_, config_.fit, default_step(pairs, problem_, candidate.depth));
  }

  RatingsFit until(const Ratings& dev, int64_t patience, const std::function<void()>& pulse) {
    RatingsFit fit;
    fit.dev.rmse = std::numeric_limits<double>::infinity();
    int64_t since_best = 0;
    for (int64_t i = 0; i < config_.fit.steps && since_best < patience && !stepper_->converged(); ++i) {
      step(i, pulse);
      fit.sweeps_done = i + 1;
      if ((i + 1) % config_.fit.eval_every != 0 && i + 1 != config_.fit.steps && !stepper_->converged()) continue;
      RatingsModel now = model();
      const RatingErrors errors = errors_of(now, dev);
      fit.curve.push_back(errors.rmse);
      since_best = errors.rmse < fit.dev.rmse * (1 - 1e-5) ? 0 : since_best + 1;
      // A chain near zero predicts the biases; until it moves there is nothing to be patient about.
      if (fit.curve.size() > 1 && fit.curve.back() == fit.curve.front()) since_best = 0;
      if (!(errors.rmse < fit.dev.rmse)) continue;
      fit.dev = errors;
      fit.sweeps = i + 1;
      fit.model = std::move(now);
    }
    return fit;
  }

  RatingsFit exactly(int64_t iterations, const std::function<void()>& pulse) {
    RatingsFit fit;
    for (int64_t i = 0; i < iterations; ++i) step(i, pulse);
    fit.sweeps = fit.sweeps_done = iterations;
    fit.model = model();
    return fit;
  }

 private:
  void step(int64_t i, const std::function<void()>& pulse) {
    if (pulse) pulse();
    const double loss = stepper_->step(i);
    check(std::isfinite(loss), "the loss is ", loss, " at iteration ", i + 1,
          "; lower completion.lr or use optimizer: auto");
  }

  RatingsModel model() {
    torch::NoGradGuard no_grad;
    const auto [b, a_t] = stepper_->halves();
    RatingsModel out = biases_;
    out.rank = b.size(1);
    out.row_factor = values_of(b.to(torch::kFloat64) * unit_);
    out.col_factor = values_of(a_t.to(torch::kFloat64));
    out.bias_first = true;
    out.row_penalty = penalties(out);
    return out;
  }

  static std::vector<double> values_of(const torch::Tensor& t) {
    const torch::Tensor c = t.contiguous();
    return {c.const_data_ptr<double>(), c.const_data_ptr<double>() + c.numel()};
  }

  /// Of halves that have converged under weight decay (`auto`): that, for every row of B then solves a ridge regression
  /// on A. Else the noise variance over the variance of the rows' coordinates: the ridge for which they are the
  /// expected spread.
  std::vector<double> penalties(const RatingsModel& model) const {
    if (stepper_->converged() && config_.fit.weight_decay > 0) {
      const double decay = config_.fit.weight_decay * loss_divisor(config_.fit, problem_, problem_.count);
      std::vector<double> out(static_cast<size_t>(model.rank), decay);
      if (model.biases()) out.push_back(biases_.row_penalty.back());
      return out;
    }
    std::vector<double> spread(static_cast<size_t>(model.rank), 0.0);
    for (size_t i = 0; i < model.row_factor.size(); ++i)
      spread[i % spread.size()] += model.row_factor[i] * model.row_factor[i];
    std::vector<double> out;
    for (const double s : spread) out.push_back(unit_ * unit_ * static_cast<double>(model.rows) / std::max(s, 1e-12));
    if (model.biases()) out.push_back(biases_.row_penalty.back());
    return out;
  }

  const Ratings& train_;
  const RatingsModel& biases_;
  CompletionConfig config_;
  Problem problem_;
  FactorChain chain_{nullptr};
  std::unique_ptr<Stepper> stepper_;
  double unit_ = 1;
};

}  // namespace

RatingsFit fit_rating_chain(const Ratings& train, const Ratings* dev, const RatingsModel& biases,
                            const RatingsCandidate& candidate, int64_t iterations, const CompletionConfig& common,
                            int64_t patience, const std::function<void()>& pulse) {
  ChainFit fit(train, biases, candidate, common);
  return dev ? fit.until(*dev, patience, pulse) : fit.exactly(iterations, pulse);
}

}  // namespace deeplora
