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
  for (auto* named : {&out.tensors, &out.beside})
    for (auto& [unused, tensor] : *named) tensor = tensor.to(device, /*non_blocking=*/true);
  return out;
}

std::string Batch::sizes() const {
  std::vector<std::string> out;
  if (input_ids.defined()) out.push_back(cat(input_ids.sizes()));
  for (const auto& [name, tensor] : tensors) out.push_back(cat(name, " ", tensor.sizes()));
  return join(out, " and ", out.size());
}

void LanguageModel::set_gradient_checkpointing(bool on) {
  check(!on,
        "train.gradient_checkpointing needs a native model family, whose layers can be computed again; this model runs "
        "by the ",
        family(), " backend; leave the key out, or lower train.batch_size and raise train.accumulate");
}

}  // namespace deeplora
