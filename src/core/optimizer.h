// What an optimizer is told about parameters: groups with their own learning-rate scale and weight decay.
#pragma once

#include <torch/types.h>

#include <string>
#include <utility>
#include <vector>

namespace deeplora {

/// A tensor under the name it has in checkpoints and messages.
struct NamedTensor {
  std::string name;
  torch::Tensor value;
};

/// Parameters that share a learning-rate scale. The optimizer uses lr = base lr x lr_scale x schedule(step).
struct ParamGroup {
  std::vector<NamedTensor> params;
  double lr_scale = 1.0;
  bool decay = true;  ///< false: weight decay is not applied (biases, norms)
  /// Matrices whose columns (of a tall one) or rows (of a wide one) are orthonormal and stay so through every step.
  bool orthonormal = false;
};

}  // namespace deeplora
