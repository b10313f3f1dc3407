#include "models/autocast_copy.h"

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

namespace deeplora {

AutocastCopy::Operand AutocastCopy::of(const torch::Tensor& weight) {
  const auto device = weight.device().type();
  if (weight.requires_grad() || weight.scalar_type() != torch::kFloat32 || !at::autocast::is_autocast_enabled(device)) return {weight, {}};
  const int64_t version = weight._version();
  if (!copy_.weight.defined() || data_ != weight.const_data_ptr() || version_ != version || copy_.weight.device() != weight.device()) {
    const torch::NoGradGuard no_grad;
    const at::ScalarType dtype = at::autocast::get_autocast_dtype(device);
    copy_.panels = dtype == at::kBFloat16 ? WeightPanels::of(weight) : WeightPanels{};
    copy_.weight = copy_.panels.defined() ? weight : weight.to(dtype);
    data_ = weight.const_data_ptr();
    version_ = version;
  }
  return copy_;
}

}  // namespace deeplora
