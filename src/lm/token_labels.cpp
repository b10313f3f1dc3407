#include "lm/token_labels.h"

#include <torch/torch.h>

#include "core/error.h"
#include "lm/language_model.h"

namespace deeplora {

void check_labels_fit(const torch::Tensor& labels, const torch::Tensor& ids) {
  check(labels.dim() == 2 && labels.sizes() == ids.sizes(), "the loss needs labels [B, T] like the tokens, found ",
        labels.sizes(), " and ", ids.sizes());
}

void check_token_labels(const torch::Tensor& labels, int64_t vocabulary) {
  const torch::Tensor wanted = labels.masked_select(labels != kIgnored);
  if (wanted.numel() == 0) return;
  const int64_t highest = wanted.max().item<int64_t>(), lowest = wanted.min().item<int64_t>();
  check(lowest >= 0 && highest < vocabulary, "token ", lowest < 0 ? lowest : highest,
        " is beyond the model's vocabulary of ", vocabulary, "; does the tokenizer belong to this model?");
}

}  // namespace deeplora
