#include "completion/observations.h"

#include <torch/torch.h>

#include <limits>
#include <stdexcept>

#include "core/error.h"

namespace deeplora {
namespace {

void require_entries(bool ok, const std::string& message) {
  if (!ok) throw std::invalid_argument(message);
}

void require_within(const torch::Tensor& index, int64_t size, const char* what) {
  if (index.numel() == 0) return;
  const auto [least, most] = at::aminmax(index);
  require_entries(least.item<int64_t>() >= 0 && most.item<int64_t>() < size,
                  cat(what, " indices from ", least.item<int64_t>(), " to ", most.item<int64_t>(), " in a matrix of ",
                      size, " ", what, "s"));
}

/// Entries in the order of `order`; row and col are int32.
Observations in_order(int64_t rows, int64_t cols, const torch::Tensor& row, const torch::Tensor& col,
                      const torch::Tensor& value, const torch::Tensor& order) {
  return {rows, cols, row.index_select(0, order), col.index_select(0, order), value.index_select(0, order)};
}

}  // namespace

Observations Observations::make(int64_t rows, int64_t cols, const torch::Tensor& row, const torch::Tensor& col,
                                const torch::Tensor& value) {
  torch::NoGradGuard no_grad;
  constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();
  require_entries(rows >= 1 && cols >= 1 && rows <= kLargest && cols <= kLargest,
                  cat("a matrix of ", rows, " x ", cols));
  require_entries(
      row.dim() == 1 && row.sizes() == col.sizes() && row.sizes() == value.sizes(),
      cat("rows ", row.sizes(), ", columns ", col.sizes(), " and values ", value.sizes(), " do not fit each other"));
  require_within(row, rows, "row");
  require_within(col, cols, "column");
  // Two stable sorts of 32-bit keys: by column, then by row. Entries that arrive in order are taken as they are.
  const torch::Tensor r = row.to(torch::kCPU, torch::kInt32).contiguous(),
                      c = col.to(torch::kCPU, torch::kInt32).contiguous();
  const torch::Tensor v = value.detach().to(torch::kCPU, torch::kFloat64).contiguous();
  const int64_t count = r.numel();
  const int32_t *rp = r.const_data_ptr<int32_t>(), *cp = c.const_data_ptr<int32_t>();
  bool sorted = true;
  for (int64_t i = 1; sorted && i < count; ++i)
    sorted = rp[i - 1] < rp[i] || (rp[i - 1] == rp[i] && cp[i - 1] <= cp[i]);
  if (sorted) return {rows, cols, r, c, v};
  const torch::Tensor by_col = std::get<1>(at::sort(c, /*stable=*/true, 0, false));
  const torch::Tensor by_row = std::get<1>(at::sort(r.index_select(0, by_col), /*stable=*/true, 0, false));
  return in_order(rows, cols, r, c, v, by_col.index_select(0, by_row));
}

double Observations::density() const {
  return static_cast<double>(count()) / (static_cast<double>(rows) * static_cast<double>(cols));
}

torch::Tensor Observations::row_begin() const {
  torch::Tensor begin = torch::zeros({rows + 1}, torch::kInt64);
  int64_t* p = begin.mutable_data_ptr<int64_t>();
  const int32_t* r = row.const_data_ptr<int32_t>();
  for (int64_t i = 0; i < count(); ++i) ++p[r[i] + 1];
  for (int64_t i = 0; i < rows; ++i) p[i + 1] += p[i];
  return begin;
}

int64_t Observations::repeated() const {
  const int32_t *r = row.const_data_ptr<int32_t>(), *c = col.const_data_ptr<int32_t>();
  int64_t found = 0;
  for (int64_t i = 1; i < count(); ++i) found += r[i] == r[i - 1] && c[i] == c[i - 1];
  return found;
}

torch::Tensor Observations::transposed_order() const {
  // Counting sort by column: stable, so rows stay in order within a column.
  torch::Tensor order = torch::empty({count()}, torch::kInt64);
  std::vector<int64_t> next(static_cast<size_t>(cols) + 1, 0);
  const int32_t* c = col.const_data_ptr<int32_t>();
  for (int64_t i = 0; i < count(); ++i) ++next[static_cast<size_t>(c[i]) + 1];
  for (size_t j = 0; j < static_cast<size_t>(cols); ++j) next[j + 1] += next[j];
  int64_t* p = order.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < count(); ++i) p[next[static_cast<size_t>(c[i])]++] = i;
  return order;
}

Observations Observations::transposed() const {
  const torch::Tensor order = transposed_order();
  return in_order(cols, rows, col, row, value, order);
}

Observations Observations::with_values(const torch::Tensor& values) const {
  require_entries(values.dim() == 1 && values.numel() == count(),
                  cat(values.sizes(), " values for ", count(), " observations"));
  return {rows, cols, row, col, values.detach().to(torch::kCPU, torch::kFloat64).contiguous()};
}

Observations Observations::select(const torch::Tensor& index) const {
  const torch::Tensor sorted = std::get<0>(at::sort(index.to(torch::kInt64)));
  return in_order(rows, cols, row, col, value, sorted);
}

}  // namespace deeplora
