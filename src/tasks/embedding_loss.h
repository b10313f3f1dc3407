// Losses of vectors of texts, equal to those of sentence-transformers.
#pragma once

#include <torch/types.h>

#include <vector>

namespace deeplora {

enum class EmbeddingLossKind {
  mnr,     ///< the right partner among those of the batch: cross-entropy of cosines (van den Oord et al. 2018)
  cosent,  ///< the order of scored pairs by their cosines (Huang et al. 2024)
  cosine   ///< squared distance of a pair's cosine from its score
};

struct EmbeddingLoss {
  EmbeddingLossKind kind = EmbeddingLossKind::mnr;
  double temperature = 0.05;     ///< cosines are divided by it (mnr, cosent)
  bool both_directions = false;  ///< mnr: a partner must find its text too; the mean of both losses
  std::vector<int64_t> widths;   ///< the sum of the losses at the first so many entries; empty: the whole vectors
};

/// The mean loss of B rows, scalar float64. `vectors` [k B, D]: the first texts of all rows, then their partners, then
/// (mnr) their hard negatives.
///
/// `labels` of cosent and cosine: scores [B]. Of mnr: numbers of texts, int64 [B, k]; texts with the same number are
/// the same. Partners and hard negatives of all rows are candidates for each text; those that are known to be right for
/// it (a partner of this text anywhere in the batch) are no negatives.
///
/// mnr: MultipleNegativesRankingLoss(scale=1/temperature), with both directions
/// directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction". cosent:
/// CoSENTLoss(scale=1/temperature). cosine: CosineSimilarityLoss. Widths: MatryoshkaLoss.
torch::Tensor embedding_loss(const torch::Tensor& vectors, const torch::Tensor& labels, const EmbeddingLoss& loss);

}  // namespace deeplora
