#include "factorization/narrow_products.h"

#include <torch/torch.h>

#include <algorithm>

#include "core/instruction_set.h"
#include "core/parallel.h"
#include "factorization/layout.h"
#include "factorization/loops/loops.h"

namespace deeplora {
namespace {

constexpr int64_t kRegister = 8;  ///< floats in one of AVX2
constexpr int64_t kStretch =
    48;  ///< rows or columns that a thread takes at least: whole tiles of every instruction set
constexpr int64_t kLongestSum =
    512;  ///< of a block: sums of sums round less than one long sum, and a block of b stays in the first cache
constexpr int64_t kWorthAThread = 100'000;  ///< multiplications

/// [K, N] by columns -> by rows.
torch::Tensor turned(const torch::Tensor& b) {
  torch::Tensor out = torch::empty(b.sizes(), b.options());
  elementwise_loops::best().transpose(reinterpret_cast<uint32_t*>(out.mutable_data_ptr<float>()), out.stride(0),
                                      reinterpret_cast<const uint32_t*>(b.const_data_ptr<float>()), b.stride(1),
                                      b.size(1), b.size(0));
  return out;
}

/// b by rows; shared out among threads along the longer side of y.
void run(torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& b, bool add) {
  const int64_t rows = y.size(0), columns = y.size(1), depth = a.size(1), longer = std::max(rows, columns);
  const int64_t stretches = (longer + kStretch - 1) / kStretch;
  const int64_t parts = rows * columns * depth < kWorthAThread ? 1 : std::min(parallel_threads(), stretches);
  float* c = y.mutable_data_ptr<float>();
  const float *left = a.const_data_ptr<float>(), *right = b.const_data_ptr<float>();
  parallel_parts(parts, [&](int64_t part) {
    const int64_t first = stretches * part / parts * kStretch,
                  count = std::min(longer, stretches * (part + 1) / parts * kStretch) - first;
    elementwise_loops::ProductTask task{.rows = rows,
                                        .columns = columns,
                                        .depth = 0,
                                        .c = c,
                                        .c_row = y.stride(0),
                                        .a = left,
                                        .a_row = a.stride(0),
                                        .a_column = a.stride(1),
                                        .b = right,
                                        .b_row = b.stride(0),
                                        .add = add};
    if (rows >= columns) {
      task.rows = count;
      task.c += first * task.c_row;
      task.a += first * task.a_row;
    } else {
      task.columns = count;
      task.c += first;
      task.b += first;
    }
    for (int64_t start = 0; start < depth; start += kLongestSum) {
      task.depth = std::min(kLongestSum, depth - start);
      elementwise_loops::best().product(task);
      task.a += task.depth * task.a_column;
      task.b += task.depth * task.b_row;
      task.add = true;
    }
  });
}

}  // namespace

bool narrow_product(torch::Tensor& y, const torch::Tensor& a, const torch::Tensor& b, double scale, bool add) {
  const auto fits = [](const torch::Tensor& x) { return x.scalar_type() == at::kFloat && lies_on_cpu(x); };
  if (!fits(a) || !fits(b) || !y.device().is_cpu() || y.scalar_type() != at::kFloat || y.stride(1) != 1 ||
      y.numel() == 0 || a.size(1) == 0)
    return false;
  const torch::NoGradGuard no_grad;
  arranged_product(y, a, b, scale, add,
                   [](torch::Tensor& to, const torch::Tensor& left, const torch::Tensor& right, bool adds) {
                     run(to, left, lies_by_rows(right) ? right : turned(right), adds);
                   });
  return true;
}

bool prefers_narrow_product(const torch::Tensor& a, const torch::Tensor& b) {
  static const bool here = instruction_set() == InstructionSet::avx2 && !is_made_by_intel();
  const auto narrow = [](int64_t side) { return side <= kNarrow && side >= kRegister; };
  // Few rows of a weight's product are MKL's: a is by columns where it is a factor's gradient.
  return here && a.scalar_type() == at::kFloat &&
         (narrow(b.size(1)) || narrow(a.size(1)) || (narrow(a.size(0)) && !lies_by_rows(a) && lies_by_rows(b)));
}

}  // namespace deeplora
