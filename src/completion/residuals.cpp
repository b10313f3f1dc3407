#include "completion/residuals.h"

#include <torch/torch.h>

#include <algorithm>
#include <stdexcept>

#include "completion/loops/loops.h"
#include "core/error.h"
#include "core/parallel.h"

namespace deeplora {
namespace {

using loops::kBlock;

/// Below this many entries a part costs less than waking its thread.
constexpr int64_t kEntriesPerPart = 4096;

int64_t blocks_of(int64_t entries) { return (entries + kBlock - 1) / kBlock; }

torch::Tensor zero_rows(int64_t rows, int64_t cols, at::ScalarType dtype) {
  return torch::zeros({rows, cols}, torch::TensorOptions().dtype(dtype));
}

/// More parts than observations per column would spend more on summing than they save.
int64_t number_of_parts(const Observations& observed) {
  const int64_t useful =
      std::min(observed.count() / kEntriesPerPart, observed.count() / std::max<int64_t>(1, observed.cols));
  return std::clamp<int64_t>(useful, 1, parallel_threads());
}

}  // namespace

Residuals::Residuals(const Observations& observed, int64_t width, at::ScalarType dtype)
    : count_(observed.count()), dtype_(dtype), lanes_per_row_(blocks_of(width) * kBlock) {
  if (width < 1 || (dtype != torch::kFloat64 && dtype != torch::kFloat32))
    throw std::invalid_argument(cat("residuals of width ", width, " in ", dtype));
  const int64_t m = observed.rows, n = observed.cols;
  const torch::Tensor begin = observed.row_begin();
  const int64_t* first = begin.const_data_ptr<int64_t>();
  block_begin_.resize(static_cast<size_t>(m) + 1, 0);
  for (int64_t i = 0; i < m; ++i)
    block_begin_[static_cast<size_t>(i) + 1] =
        block_begin_[static_cast<size_t>(i)] + blocks_of(first[i + 1] - first[i]);
  fill_blocks(observed, first);
  const int64_t parts = number_of_parts(observed);
  divide_rows(parts);
  b_memory_ = zero_rows(m, lanes_per_row_, dtype);
  a_memory_ = zero_rows(n + 1, lanes_per_row_, dtype);
  db_memory_ = zero_rows(m, lanes_per_row_, dtype);
  da_memory_ = torch::zeros({parts, n + 1, lanes_per_row_}, torch::TensorOptions().dtype(dtype));
  b_ = b_memory_.narrow(1, 0, width);
  a_t_ = a_memory_.narrow(0, 0, n).narrow(1, 0, width);
  db_ = db_memory_.narrow(1, 0, width);
  da_t_ = da_memory_.select(0, 0).narrow(0, 0, n).narrow(1, 0, width);
}

void Residuals::fill_blocks(const Observations& observed, const int64_t* row_begin) {
  const int64_t padded = block_begin_.back() * kBlock;
  index_ = torch::full({padded}, observed.cols, torch::kInt32);
  target_ = torch::zeros({padded}, torch::TensorOptions().dtype(dtype_));
  residual_ = torch::zeros_like(target_);
  const int32_t* col = observed.col.const_data_ptr<int32_t>();
  const double* value = observed.value.const_data_ptr<double>();
  int32_t* index = index_.mutable_data_ptr<int32_t>();
  AT_DISPATCH_FLOATING_TYPES(dtype_, "fill_blocks", [&] {
    scalar_t* target = target_.mutable_data_ptr<scalar_t>();
    for (int64_t i = 0; i < observed.rows; ++i) {
      int64_t to = block_begin_[static_cast<size_t>(i)] * kBlock;
      for (int64_t k = row_begin[i]; k < row_begin[i + 1]; ++k, ++to) {
        index[to] = col[k];
        target[to] = static_cast<scalar_t>(value[k]);
      }
    }
  });
  row_entries_.resize(static_cast<size_t>(observed.rows));
  for (size_t i = 0; i < row_entries_.size(); ++i)
    row_entries_[i] = static_cast<int32_t>(row_begin[i + 1] - row_begin[i]);
}

void Residuals::divide_rows(int64_t parts) {
  const int64_t blocks = block_begin_.back(), rows = static_cast<int64_t>(block_begin_.size()) - 1;
  for (int64_t part = 0, from = 0; part < parts; ++part) {
    const auto end = std::lower_bound(block_begin_.begin(), block_begin_.end(), blocks * (part + 1) / parts);
    const int64_t to = part + 1 == parts ? rows : std::max<int64_t>(from, end - block_begin_.begin());
    parts_.push_back({from, to});
    from = to;
  }
}

template <class T>
double Residuals::run(bool dot, bool spread) {
  const auto& table = loops::best<T>();
  const int64_t share = a_memory_.numel();
  T* da = da_memory_.mutable_data_ptr<T>();
  std::vector<double> sums(parts_.size(), 0.0);
  parallel_parts(static_cast<int64_t>(parts_.size()), [&](int64_t part) {
    const auto at = static_cast<size_t>(part);
    if (spread) std::fill_n(da + part * share, share, T(0));
    sums[at] = table.rows({.row_from = parts_[at].row_from,
                           .row_to = parts_[at].row_to,
                           .stride = lanes_per_row_,
                           .block_begin = block_begin_.data(),
                           .index = index_.const_data_ptr<int32_t>(),
                           .target = target_.const_data_ptr<T>(),
                           .residual = residual_.mutable_data_ptr<T>(),
                           .b = b_memory_.const_data_ptr<T>(),
                           .a = a_memory_.const_data_ptr<T>(),
                           .db = db_memory_.mutable_data_ptr<T>(),
                           .da = da + part * share,
                           .p = nullptr,
                           .q = nullptr},
                          {dot, spread});
  });
  if (spread) sum_shares(da, share);
  double total = 0;
  for (const double sum : sums) total += sum;
  return total / 2;
}

template <class T>
void Residuals::sum_shares(T* da, int64_t share) const {
  const auto parts = static_cast<int64_t>(parts_.size());
  if (parts == 1) return;
  const auto sum_range = [&](int64_t from, int64_t to) {
    for (int64_t part = 1; part < parts; ++part) {
      const T* other = da + part * share;
      for (int64_t k = from; k < to; ++k) da[k] += other[k];
    }
  };
  constexpr int64_t kWorthAThread = 1 << 16;
  if (share < kWorthAThread) return sum_range(0, share);
  parallel_parts(parts, [&](int64_t part) { sum_range(share * part / parts, share * (part + 1) / parts); });
}

double Residuals::dispatch(bool dot, bool spread) {
  return dtype_ == torch::kFloat64 ? run<double>(dot, spread) : run<float>(dot, spread);
}

double Residuals::value() { return dispatch(true, false); }
double Residuals::gradient() { return dispatch(true, true); }
void Residuals::propagate() { dispatch(false, true); }

std::array<double, 5> Residuals::along(const torch::Tensor& p, const torch::Tensor& q) {
  if (!p_memory_.defined()) {
    p_memory_ = torch::zeros_like(b_memory_);
    q_memory_ = torch::zeros_like(a_memory_);
  }
  p_memory_.narrow(1, 0, width()).copy_(p);
  q_memory_.narrow(0, 0, cols()).narrow(1, 0, width()).copy_(q);
  std::vector<std::array<double, 5>> sums(parts_.size(), std::array<double, 5>{});
  AT_DISPATCH_FLOATING_TYPES(dtype_, "along", [&] {
    parallel_parts(static_cast<int64_t>(parts_.size()), [&](int64_t part) {
      const auto at = static_cast<size_t>(part);
      loops::best<scalar_t>().along({.row_from = parts_[at].row_from,
                                     .row_to = parts_[at].row_to,
                                     .stride = lanes_per_row_,
                                     .block_begin = block_begin_.data(),
                                     .index = index_.const_data_ptr<int32_t>(),
                                     .target = target_.const_data_ptr<scalar_t>(),
                                     .residual = residual_.mutable_data_ptr<scalar_t>(),
                                     .b = b_memory_.const_data_ptr<scalar_t>(),
                                     .a = a_memory_.const_data_ptr<scalar_t>(),
                                     .db = nullptr,
                                     .da = nullptr,
                                     .p = p_memory_.const_data_ptr<scalar_t>(),
                                     .q = q_memory_.const_data_ptr<scalar_t>()},
                                    sums[at].data());
    });
  });
  std::array<double, 5> total{};
  for (const auto& one : sums)
    for (size_t k = 0; k < total.size(); ++k) total[k] += one[k];
  // 1/2 (R + t d1 + t^2 d2)^2
  return {total[0] / 2, total[1], total[2] / 2, total[3], total[4] / 2};
}

torch::Tensor Residuals::residuals() const {
  torch::Tensor out = torch::empty({count_}, torch::kFloat64);
  double* to = out.mutable_data_ptr<double>();
  AT_DISPATCH_FLOATING_TYPES(dtype_, "residuals", [&] {
    const scalar_t* from = residual_.const_data_ptr<scalar_t>();
    for (size_t i = 0; i < row_entries_.size(); ++i)
      to = std::copy_n(from + block_begin_[i] * kBlock, row_entries_[i], to);
  });
  return out;
}

namespace {

class ResidualLoss : public torch::autograd::Function<ResidualLoss> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& b,
                               const torch::Tensor& a_t, Residuals& residuals) {
    residuals.b().copy_(b);
    residuals.a_t().copy_(a_t);
    const double loss = residuals.gradient();
    context->save_for_backward({residuals.db().clone(), residuals.da_t().clone()});
    return torch::full({}, loss, b.options().requires_grad(false));
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& upstream) {
    const auto saved = context->get_saved_variables();
    return {upstream[0] * saved[0], upstream[0] * saved[1], torch::Tensor()};
  }
};

}  // namespace

torch::Tensor residual_loss(const torch::Tensor& b, const torch::Tensor& a_t, const Observations& observed) {
  if (b.dim() != 2 || a_t.dim() != 2 || b.size(0) != observed.rows || a_t.size(0) != observed.cols ||
      b.size(1) != a_t.size(1) || b.scalar_type() != a_t.scalar_type())
    throw std::invalid_argument(cat("halves ", b.sizes(), " ", b.scalar_type(), " and ", a_t.sizes(), " ",
                                    a_t.scalar_type(), " do not fit a matrix of ", observed.rows, " x ",
                                    observed.cols));
  Residuals residuals(observed, b.size(1), b.scalar_type());
  return ResidualLoss::apply(b, a_t, residuals);
}

}  // namespace deeplora
