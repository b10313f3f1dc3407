// Cross-entropy of next tokens, each on its own, without copies of the logits.
#pragma once

#include "lm/language_model.h"

namespace deeplora {

/// -log softmax(logits)[label] of all labels that are not kIgnored, in the order of their cells: [n] float32. logits
/// [B, T, V] of any floating type, labels [B, T] int64: the label of a cell is what the logits of the same cell
/// predict. Works through the predicted cells in stretches, in float32, forward and backward, so that beside logits and
/// their gradient nothing of their size is ever held (V is 50 000 and more). Throws Error for labels beyond V.
torch::Tensor token_losses(const torch::Tensor& logits, const torch::Tensor& labels);

}  // namespace deeplora
