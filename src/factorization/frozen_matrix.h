// A frozen weight as its products read it.
#pragma once

#include <torch/types.h>

#include <memory>
#include <utility>
#include <vector>

#include "factorization/products.h"
#include "factorization/stored_lines.h"
#include "factorization/weight_panels.h"

namespace deeplora {

/// W [m, n]: parts [m_i, n] one below the other, each laid out by rows or by columns, in the type of the products or in
/// half precision, which is widened block by block on its way into a product; or parts in 8 or 4 bits, likewise; or
/// panels of the whole, for bfloat16.
struct FrozenMatrix {
  using Lines = std::vector<std::shared_ptr<const StoredLines>>;
  std::vector<torch::Tensor> parts;
  Lines quantized;  ///< in place of `parts`
  WeightPanels panels;

  FrozenMatrix() = default;
  FrozenMatrix(torch::Tensor weight, WeightPanels laid_out = {})
      : parts{std::move(weight)}, panels(std::move(laid_out)) {}
  explicit FrozenMatrix(std::vector<torch::Tensor> all) : parts(std::move(all)) {}
  explicit FrozenMatrix(Lines all) : quantized(std::move(all)) {}

  int64_t rows() const;  ///< m

  /// x W^T + bias for x [N, n] in the operands' type and bias [m] (undefined: none) -> [N, m] in the results' type.
  torch::Tensor product(const ProductTypes& types, const torch::Tensor& x, const torch::Tensor& bias = {}) const;
  /// g W for g [N, m] in the operands' type -> [N, n] in the results' type.
  torch::Tensor product_back(const ProductTypes& types, const torch::Tensor& g) const;

  /// The tensors that product_back() needs, and a matrix made of them and of `quantized` that can do nothing else.
  std::vector<torch::Tensor> for_way_back() const;
  static FrozenMatrix of_way_back(std::vector<torch::Tensor> kept, Lines quantized = {});
};

/// Whether a weight is in a half-precision type.
bool is_half(const torch::Tensor& weight);

}  // namespace deeplora
