#include "lm/language_model.h"

namespace deeplora {

Batch Batch::to(torch::Device device) const {
  Batch out = *this;
  for (torch::Tensor* tensor : {&out.input_ids, &out.attention_mask, &out.token_type_ids, &out.position_ids,
                                &out.decoder_input_ids, &out.labels})
    if (tensor->defined()) *tensor = tensor->to(device, /*non_blocking=*/true);
  return out;
}

}  // namespace deeplora
