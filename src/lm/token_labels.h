// What labels of tokens have to be.
#pragma once

#include <torch/types.h>

namespace deeplora {

/// Throws Error when a label that is not kIgnored is no token of the vocabulary.
void check_token_labels(const torch::Tensor& labels, int64_t vocabulary);

}  // namespace deeplora
