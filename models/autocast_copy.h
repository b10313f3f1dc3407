// A frozen weight as its products want it here and now.
#pragma once

#include <torch/types.h>

#include <functional>
#include <utility>
#include <vector>

#include "factorization/frozen_matrix.h"

namespace deeplora {

/// Holds a frozen weight as autocast's products read it, so that it is rounded and laid out once instead of in every
/// pass (LibTorch's own cache takes trained weights only). As panels it takes as much memory as the weight itself,
/// otherwise half of it. Weights that are in autocast's dtype already are not copied.
class AutocastCopy {
 public:
  /// Called when the weights will hardly be read any more: their memory may be left. May change where they lie.
  using Leave = std::function<void()>;
  /// Made again when the weight has changed; `weight` itself where autocast is off for its device, or when it trains.
  FrozenMatrix of(const torch::Tensor& weight, const Leave& leave = {});
  /// Panels of weights [m_i, n] one below the other, which need not be joined for it; none where they cannot have any.
  WeightPanels panels_of(const std::vector<torch::Tensor>& weights, const Leave& leave = {});

 private:
  /// What a copy was made of: address and version of each weight.
  using Origin = std::vector<std::pair<const void*, int64_t>>;
  static Origin origin_of(const std::vector<torch::Tensor>& weights);
  FrozenMatrix copy_;
  Origin origin_;
};

}  // namespace deeplora
