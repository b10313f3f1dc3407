// A frozen weight as autocast wants it.
#pragma once

#include <torch/types.h>

#include "factorization/weight_panels.h"

namespace deeplora {

/// Holds a frozen weight as autocast's products read it, so that it is rounded and laid out once instead of in every pass (LibTorch's own cache
/// takes trained weights only). As panels it takes as much memory as the weight itself, otherwise half of it.
class AutocastCopy {
 public:
  struct Operand {
    torch::Tensor weight;  ///< in autocast's dtype, unless there are panels
    WeightPanels panels;
  };
  /// Made again when the weight has changed; `weight` itself where autocast is off for its device, or when it trains.
  Operand of(const torch::Tensor& weight);

 private:
  Operand copy_;
  const void* data_ = nullptr;  ///< what it was made of
  int64_t version_ = -1;
};

}  // namespace deeplora
