#include "factorization/stored_lines.h"

#include <torch/torch.h>

#include <algorithm>

#include "factorization/layout.h"
#include "factorization/loops/loops.h"

namespace deeplora {
namespace {

using Widen = void (*)(float*, const uint16_t*, int64_t);

class FloatLines : public StoredLines {
 public:
  explicit FloatLines(const torch::Tensor& matrix)
      : StoredLines(matrix.size(0), matrix.size(1)),
        kept_(matrix),
        data_(matrix.const_data_ptr<float>()),
        row_(matrix.stride(0)) {}
  void read(int64_t line, int64_t first, int64_t count, float* to) const override {
    std::copy_n(data_ + line * row_ + first, count, to);
  }
  const float* in_place(int64_t line) const override { return data_ + line * row_; }
  int64_t bytes() const override { return static_cast<int64_t>(kept_.nbytes()); }

 private:
  torch::Tensor kept_;
  const float* data_;
  int64_t row_;
};

class HalfLines : public StoredLines {
 public:
  HalfLines(const torch::Tensor& matrix, Widen widen)
      : StoredLines(matrix.size(0), matrix.size(1)),
        kept_(matrix),
        data_(static_cast<const uint16_t*>(matrix.const_data_ptr())),
        row_(matrix.stride(0)),
        widen_(widen) {}
  void read(int64_t line, int64_t first, int64_t count, float* to) const override {
    widen_(to, data_ + line * row_ + first, count);
  }
  bool in_bfloat16() const override { return kept_.scalar_type() == at::kBFloat16; }
  int64_t bytes() const override { return static_cast<int64_t>(kept_.nbytes()); }

 private:
  torch::Tensor kept_;
  const uint16_t* data_;
  int64_t row_;
  Widen widen_;
};

}  // namespace

std::unique_ptr<StoredLines> StoredLines::of(const torch::Tensor& matrix) {
  const auto type = matrix.scalar_type();
  if (matrix.dim() != 2 || !matrix.device().is_cpu() || !lies_by_rows(matrix)) return nullptr;
  const auto& loops = elementwise_loops::best();
  if (type == at::kFloat) return std::make_unique<FloatLines>(matrix);
  if (type == at::kBFloat16) return std::make_unique<HalfLines>(matrix, loops.from_bfloat16);
  if (type == at::kHalf) return std::make_unique<HalfLines>(matrix, loops.from_float16);
  return nullptr;
}

}  // namespace deeplora
