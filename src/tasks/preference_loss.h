// Losses of pairs of answers, one preferred to the other, as TRL's trainers have them.
#pragma once

#include <torch/types.h>

namespace deeplora {

/// What a model says to pairs of sequences, rows 2i (chosen) and 2i + 1 (rejected) of a batch. All float64.
struct AnswerScores {
  torch::Tensor sums;         ///< [B, 2] log p of the answers' tokens, added up
  torch::Tensor counts;       ///< [B, 2] how many these are
  torch::Tensor text_losses;  ///< [B] -log p of all labelled tokens of the chosen sequence, added up
  torch::Tensor text_counts;  ///< [B] how many these are
};

/// losses [n] of the labels [2B, T] that are not kIgnored, in the order of their cells; answers [2B, T] bool: which
/// cells are the answers'.
AnswerScores answer_scores(const torch::Tensor& losses, const torch::Tensor& labels, const torch::Tensor& answers);

struct PairLosses {
  torch::Tensor losses;   ///< [B]
  torch::Tensor rewards;  ///< [B, 2] of chosen and rejected, without gradient
};

/// Direct preference optimisation: -log sigmoid(beta ((c - c_ref) - (r - r_ref))) of summed log-probabilities; a reward
/// is beta (log p - log p_ref). sums, reference [B, 2]. Sources: Rafailov et al. 2023 (arXiv:2305.18290), equation 7;
/// TRL's DPOTrainer with loss_type sigmoid.
PairLosses dpo_losses(const torch::Tensor& sums, const torch::Tensor& reference, double beta);

/// The odds-ratio part of ORPO: -lambda log sigmoid(log odds(c) - log odds(r)), odds(p) = p / (1 - p), of mean
/// log-probabilities a token; a reward is lambda times that mean. means [B, 2]. The whole loss adds the mean
/// cross-entropy of the chosen sequences' tokens, prompts included. Sources: Hong et al. 2024 (arXiv:2403.07691),
/// equations 4 to 7; TRL's ORPOTrainer.
PairLosses odds_ratio_losses(const torch::Tensor& means, double lambda);

}  // namespace deeplora
