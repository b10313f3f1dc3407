// Frozen weights laid out once as a processor's matrix units read them.
#pragma once

#include <torch/types.h>

namespace deeplora {

/// A weight [m, n] in bfloat16, as the right side of its two products: x W^T [N, m] and g W [N, n]. Each is a stack of
/// panels of NB columns, [columns / NB, rows / 2, NB, 2], two rows interleaved. Undefined where there are none.
struct WeightPanels {
  torch::Tensor forward, backward;

  bool defined() const { return forward.defined(); }
  /// Whether a weight [m, n] on `device` can have panels.
  static bool fit(int64_t m, int64_t n, torch::Device device);
  /// None where the processor has no such units, LibTorch no kernels for them, or the sizes do not divide into panels.
  static WeightPanels of(const torch::Tensor& weight);
};

/// a [N, K] bfloat16 contiguous times the matrix [K, M] in `panels`, plus bias [M] (float32; undefined: none) -> [N, M]
/// float32.
torch::Tensor panel_product(const torch::Tensor& a, const torch::Tensor& panels, const torch::Tensor& bias);

}  // namespace deeplora
