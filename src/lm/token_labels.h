// What labels of tokens have to be.
#pragma once

#include <torch/types.h>

namespace deeplora {

/// Throws Error unless labels [B, T] are as many as the tokens that they are for, ids [B, T].
void check_labels_fit(const torch::Tensor& labels, const torch::Tensor& ids);

/// Throws Error when a label that is not kIgnored is no token of the vocabulary.
void check_token_labels(const torch::Tensor& labels, int64_t vocabulary);

}  // namespace deeplora
