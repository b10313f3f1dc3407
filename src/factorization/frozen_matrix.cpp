#include "factorization/frozen_matrix.h"

#include <torch/torch.h>

#include <algorithm>

#include "core/parallel.h"
#include "factorization/block_products.h"
#include "factorization/few_rows.h"
#include "factorization/layout.h"

namespace deeplora {
namespace {

/// y = or += a b
void product_into(const ProductTypes& types, torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& b,
                  bool add) {
  if (add) types.add_product(y, a, b);
  else types.product_into(y, a, b);
}

/// Lines first .. first + count - 1 in the operands' type.
torch::Tensor widened(const ProductTypes& types, const StoredLines& lines, int64_t first, int64_t count) {
  torch::Tensor out = torch::empty({count, lines.length()}, torch::kFloat32);
  float* to = out.mutable_data_ptr<float>();
  parallel_rows(count, lines.length(), [&](int64_t start, int64_t some) {
    for (int64_t i = start; i < start + some; ++i) lines.read(first + i, 0, lines.length(), to + i * lines.length());
  });
  return types.narrowed(out);
}

/// y = or += a W^T (`transposed`) or a W, W's rows being the lines. Without kernels that widen blocks of their own, as
/// many lines at a time as fit a cache.
void product_with(const ProductTypes& types, torch::Tensor& y, const torch::Tensor& a, const StoredLines& lines,
                  bool transposed, bool add) {
  if (transposed && few_rows_product(y, a, lines, add)) return;
  if (lines_product(y, a, lines, transposed, add)) return;
  constexpr int64_t kNumbers = 1 << 19;
  const int64_t step = std::max<int64_t>(16, kNumbers / std::max<int64_t>(1, lines.length()));
  for (int64_t first = 0; first < lines.lines(); first += step) {
    const int64_t count = std::min(step, lines.lines() - first);
    const torch::Tensor block = widened(types, lines, first, count);
    if (transposed) {
      torch::Tensor place = y.narrow(1, first, count);
      product_into(types, place, a, block.t(), add);
    } else {
      product_into(types, y, a.narrow(1, first, count), block, add || first > 0);
    }
  }
}

void product_with(const ProductTypes& types, torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& weight,
                  bool transposed, bool add) {
  // Of a weight by columns the lines are those of W^T.
  const bool by_rows = weight.device().is_cpu() && lies_by_rows(weight), along = transposed == by_rows;
  const bool few = along && a.size(0) <= kFewRows, other = weight.scalar_type() != types.operand;
  if (few || (other && is_half(weight)))
    if (const auto lines = StoredLines::of(by_rows ? weight : weight.t()))
      if (types.result == at::kFloat) return product_with(types, y, a, *lines, along, add);
  // Also where MKL is preferred for factors: it lays a whole weight out anew for every product.
  if (!other && is_half(weight) && block_product(y, a, transposed ? weight.t() : weight, 1, add)) return;
  const torch::Tensor operand = types.narrowed(weight);
  product_into(types, y, a, transposed ? operand.t() : operand, add);
}

/// Calls visit(part, first row, rows) for every part, of whichever kind.
template <class Visit>
void each_part(const FrozenMatrix& matrix, const Visit& visit) {
  int64_t row = 0;
  for (const auto& part : matrix.parts) {
    visit(part, row, part.size(0));
    row += part.size(0);
  }
  for (const auto& part : matrix.quantized) {
    visit(*part, row, part->lines());
    row += part->lines();
  }
}

}  // namespace

bool is_half(const torch::Tensor& weight) {
  return weight.scalar_type() == at::kBFloat16 || weight.scalar_type() == at::kHalf;
}

int64_t FrozenMatrix::rows() const {
  int64_t out = 0;
  each_part(*this, [&](const auto&, int64_t, int64_t rows) { out += rows; });
  return out;
}

torch::Tensor FrozenMatrix::product(const ProductTypes& types, const torch::Tensor& x,
                                    const torch::Tensor& bias) const {
  if (panels.defined()) return panel_product(x, panels.forward, bias);
  const bool few = x.size(0) <= kFewRows && x.device().is_cpu();
  if (parts.size() == 1 && !is_half(parts.front()) && !few)
    return types.biased_product(bias, x, types.narrowed(parts.front()).t());
  torch::Tensor y = types.started(bias, x, rows());
  each_part(*this, [&](const auto& part, int64_t row, int64_t rows) {
    torch::Tensor place = y.narrow(1, row, rows);
    product_with(types, place, x, part, /*transposed=*/true, bias.defined());
  });
  return y;
}

torch::Tensor FrozenMatrix::product_back(const ProductTypes& types, const torch::Tensor& g) const {
  if (panels.defined()) return panel_product(g, panels.backward, {});
  const int64_t columns = parts.empty() ? quantized.front()->length() : parts.front().size(1);
  torch::Tensor y = torch::empty({g.size(0), columns}, g.options().dtype(types.result));
  each_part(*this, [&](const auto& part, int64_t row, int64_t rows) {
    product_with(types, y, g.narrow(1, row, rows), part, /*transposed=*/false, row > 0);
  });
  return y;
}

std::vector<torch::Tensor> FrozenMatrix::for_way_back() const {
  return panels.defined() ? std::vector<torch::Tensor>{panels.backward} : parts;
}

FrozenMatrix FrozenMatrix::of_way_back(std::vector<torch::Tensor> kept, Lines quantized) {
  if (!quantized.empty()) return FrozenMatrix(std::move(quantized));
  if (kept.front().dim() == 2) return FrozenMatrix(std::move(kept));
  FrozenMatrix out;
  out.panels.backward = kept.front();
  out.panels.forward = kept.front();  // panels are defined by both
  return out;
}

}  // namespace deeplora
