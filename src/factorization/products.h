// Matrix products that may take bfloat16 and give float32.
#pragma once

#include <torch/types.h>

#include "factorization/input_function.h"

namespace deeplora {

/// How the operands of a layer's products are held, and what the products give.
struct ProductTypes {
  at::ScalarType operand;
  at::ScalarType result;  ///< operand, or float32 where bfloat16 products on the CPU are added up and kept in float32

  /// For a layer that reads x: x's dtype, or autocast's where that is on for its device.
  static ProductTypes of(const torch::Tensor& x);

  /// x in the operands' dtype.
  torch::Tensor narrowed(const torch::Tensor& x) const { return rounded_to(x, operand); }
  /// a [M, K] b [K, N], both of the operands' dtype and laid out by rows or by columns -> [M, N].
  torch::Tensor product(const torch::Tensor& a, const torch::Tensor& b) const;
  /// y [M, N] (result dtype, rows of any stride) = scale a b.
  void product_into(torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& b, double scale = 1) const;
  /// y += scale a b.
  void add_product(torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& b, double scale = 1) const;
  /// a b + bias [N]; an undefined bias is none.
  torch::Tensor biased_product(const torch::Tensor& bias, const torch::Tensor& a, const torch::Tensor& b) const;
  /// [a's rows, columns] in the results' dtype to add a product to: bias [columns] in every row; not set without one.
  torch::Tensor started(const torch::Tensor& bias, const torch::Tensor& a, int64_t columns) const;

 private:
  bool widens() const { return operand != result; }
};

}  // namespace deeplora
