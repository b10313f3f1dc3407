#include "tasks/embedding_loss.h"

#include <torch/torch.h>

#include <limits>

#include "lm/pooled_model.h"

namespace deeplora {
namespace {

/// [B, C] true where a candidate is another right answer for a row's text: no negative, and not its own partner.
torch::Tensor other_right_answers(const torch::Tensor& numbers) {
  const torch::Tensor texts = numbers.select(1, 0), partners = numbers.select(1, 1);
  const torch::Tensor candidates = numbers.slice(1, 1).t().reshape({-1});  // column after column
  const torch::Tensor same_text = texts.unsqueeze(1) == texts.unsqueeze(0);
  const torch::Tensor same_partner = partners.unsqueeze(1) == candidates.unsqueeze(0);
  const torch::Tensor right = torch::mm(same_text.to(torch::kFloat32), same_partner.to(torch::kFloat32)) > 0;
  torch::Tensor own = torch::zeros_like(right);
  own.diagonal().fill_(true);
  return right.logical_and(own.logical_not());
}

torch::Tensor partner_among(const torch::Tensor& similarities, const torch::Tensor& no_negatives) {
  const torch::Tensor left = similarities.masked_fill(no_negatives, -std::numeric_limits<double>::infinity());
  return torch::nn::functional::cross_entropy(left,
                                              torch::arange(left.size(0), no_negatives.options().dtype(torch::kInt64)));
}

torch::Tensor mnr(const torch::Tensor& unit, const torch::Tensor& numbers, const EmbeddingLoss& loss) {
  const int64_t rows = numbers.size(0);
  const torch::Tensor texts = unit.slice(0, 0, rows), candidates = unit.slice(0, rows);
  const torch::Tensor similarities = torch::mm(texts, candidates.t()) / loss.temperature;
  const torch::Tensor no_negatives = other_right_answers(numbers);
  const torch::Tensor forward = partner_among(similarities, no_negatives);
  if (!loss.both_directions) return forward;
  const torch::Tensor backward = partner_among(similarities.slice(1, 0, rows).t(), no_negatives.slice(1, 0, rows).t());
  return (forward + backward) / 2;
}

/// log(1 + the sum of exp(cosine of a pair - that of a pair with a higher score)).
torch::Tensor cosent(const torch::Tensor& cosines, const torch::Tensor& scores, double temperature) {
  const torch::Tensor scaled = cosines / temperature;
  const torch::Tensor differences = scaled.unsqueeze(1) - scaled.unsqueeze(0);
  const torch::Tensor ordered = scores.unsqueeze(1) < scores.unsqueeze(0);
  const torch::Tensor terms =
      differences.masked_fill(ordered.logical_not(), -std::numeric_limits<double>::infinity()).reshape({-1});
  return torch::logsumexp(torch::cat({torch::zeros({1}, terms.options()), terms}), 0);
}

torch::Tensor loss_of_width(const torch::Tensor& vectors, const torch::Tensor& labels, const EmbeddingLoss& loss) {
  const torch::Tensor unit = normalized(vectors);
  if (loss.kind == EmbeddingLossKind::mnr) return mnr(unit, labels, loss);
  const torch::Tensor cosines = (unit.slice(0, 0, labels.size(0)) * unit.slice(0, labels.size(0))).sum(-1);
  const torch::Tensor scores = labels.to(torch::kFloat64);
  return loss.kind == EmbeddingLossKind::cosent ? cosent(cosines, scores, loss.temperature)
                                                : torch::nn::functional::mse_loss(cosines, scores);
}

}  // namespace

torch::Tensor embedding_loss(const torch::Tensor& vectors, const torch::Tensor& labels, const EmbeddingLoss& loss) {
  const torch::Tensor exact = vectors.to(torch::kFloat64);  // which autocast leaves alone
  if (loss.widths.empty()) return loss_of_width(exact, labels, loss);
  torch::Tensor sum = torch::zeros({}, exact.options());
  for (const int64_t width : loss.widths) sum = sum + loss_of_width(exact.slice(1, 0, width), labels, loss);
  return sum;
}

}  // namespace deeplora
