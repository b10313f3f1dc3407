#include "factorization/frozen_matrix.h"

#include <torch/torch.h>

#include "factorization/block_products.h"
#include "factorization/layout.h"

namespace deeplora {
namespace {

/// y = or += a W, or a W^T.
void product_with(const ProductTypes& types, torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& weight,
                  bool transposed, bool add) {
  if (weight.scalar_type() != types.operand) {
    // Of a weight by columns the lines are those of W^T.
    const bool by_rows = weight.device().is_cpu() && lies_by_rows(weight);
    const auto lines = StoredLines::of(by_rows ? weight : weight.t());
    if (lines && lines_product(y, a, *lines, transposed == by_rows, add)) return;
  } else if (is_half(weight) && block_product(y, a, transposed ? weight.t() : weight, 1, add)) {
    return;  // also where MKL is preferred for factors: it lays a whole weight out anew for every product
  }
  const torch::Tensor operand = types.narrowed(weight), b = transposed ? operand.t() : operand;
  if (add) types.add_product(y, a, b);
  else types.product_into(y, a, b);
}

}  // namespace

bool is_half(const torch::Tensor& weight) {
  return weight.scalar_type() == at::kBFloat16 || weight.scalar_type() == at::kHalf;
}

torch::Tensor FrozenMatrix::product(const ProductTypes& types, const torch::Tensor& x,
                                    const torch::Tensor& bias) const {
  if (panels.defined()) return panel_product(x, panels.forward, bias);
  if (parts.size() == 1 && !is_half(parts.front()))
    return types.biased_product(bias, x, types.narrowed(parts.front()).t());
  int64_t out = 0;
  for (const auto& part : parts) out += part.size(0);
  torch::Tensor y = types.started(bias, x, out);
  int64_t column = 0;
  for (const auto& part : parts) {
    torch::Tensor place = y.narrow(1, column, part.size(0));
    product_with(types, place, x, part, /*transposed=*/true, bias.defined());
    column += part.size(0);
  }
  return y;
}

torch::Tensor FrozenMatrix::product_back(const ProductTypes& types, const torch::Tensor& g) const {
  if (panels.defined()) return panel_product(g, panels.backward, {});
  torch::Tensor y = torch::empty({g.size(0), parts.front().size(1)}, g.options().dtype(types.result));
  int64_t column = 0;
  for (const auto& part : parts) {
    product_with(types, y, g.narrow(1, column, part.size(0)), part, /*transposed=*/false, column > 0);
    column += part.size(0);
  }
  return y;
}

std::vector<torch::Tensor> FrozenMatrix::for_way_back() const {
  return panels.defined() ? std::vector<torch::Tensor>{panels.backward} : parts;
}

FrozenMatrix FrozenMatrix::of_way_back(std::vector<torch::Tensor> kept) {
  if (kept.front().dim() == 2) return FrozenMatrix(std::move(kept));
  FrozenMatrix out;
  out.panels.backward = kept.front();
  out.panels.forward = kept.front();  // panels are defined by both
  return out;
}

}  // namespace deeplora
