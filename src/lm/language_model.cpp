#include "lm/language_model.h"

#include <torch/torch.h>

namespace deeplora {

torch::Tensor RowBlock::of(const torch::Tensor& whole) const {
  return whole.unflatten(0, {groups, -1}).narrow(1, offset, size).flatten(0, 1);
}

void RowBlock::add_to(const torch::Tensor& whole, const torch::Tensor& part) const {
  whole.unflatten(0, {groups, -1}).narrow(1, offset, size).add_(part.unflatten(0, {groups, size}));
}

Batch Batch::to(torch::Device device) const {
  Batch out = *this;
  for (torch::Tensor* tensor : {&out.input_ids, &out.attention_mask, &out.token_type_ids, &out.position_ids,
                                &out.decoder_input_ids, &out.labels})
    if (tensor->defined()) *tensor = tensor->to(device, /*non_blocking=*/true);
  return out;
}

}  // namespace deeplora
