#include "tasks/preference_loss.h"

#include <torch/torch.h>

#include "lm/language_model.h"

namespace deeplora {
namespace {

/// log(1 - exp(x)) of x < 0, by the form that loses no digits.
torch::Tensor log_rest(const torch::Tensor& x) {
  // At 0 the odds are infinite; next to it the branch that is not taken would give its gradient a NaN.
  const torch::Tensor below = x.clamp_max(-1e-12);
  return torch::where(below < -std::log(2.0), torch::log1p(-torch::exp(below)), torch::log(-torch::expm1(below)));
}

}  // namespace

AnswerScores answer_scores(const torch::Tensor& losses, const torch::Tensor& labels, const torch::Tensor& answers) {
  const torch::Tensor labelled = labels != kIgnored, rows = labelled.nonzero().select(1, 0),
                      wide = losses.to(torch::kFloat64),
                      of_answer = answers.masked_select(labelled).to(torch::kFloat64);
  const auto by_row = [&](const torch::Tensor& values) {
    return torch::zeros({labels.size(0)}, wide.options()).index_add(0, rows, values).view({-1, 2});
  };
  return {.sums = by_row(-wide * of_answer),
          .counts = by_row(of_answer),
          .text_losses = by_row(wide).select(1, 0),
          .text_counts = by_row(torch::ones_like(of_answer)).select(1, 0)};
}

PairLosses dpo_losses(const torch::Tensor& sums, const torch::Tensor& reference, double beta) {
  const torch::Tensor ratios = sums - reference;
  return {-torch::log_sigmoid(beta * (ratios.select(1, 0) - ratios.select(1, 1))), (beta * ratios).detach()};
}

PairLosses odds_ratio_losses(const torch::Tensor& means, double lambda) {
  const torch::Tensor log_odds = means - log_rest(means);
  return {-lambda * torch::log_sigmoid(log_odds.select(1, 0) - log_odds.select(1, 1)), (lambda * means).detach()};
}

}  // namespace deeplora
