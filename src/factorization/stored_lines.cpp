#include "factorization/stored_lines.h"

#include <torch/torch.h>

#include "factorization/layout.h"
#include "factorization/loops/loops.h"

namespace deeplora {
namespace {

using Widen = void (*)(float*, const uint16_t*, int64_t);

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

 private:
  torch::Tensor kept_;
  const uint16_t* data_;
  int64_t row_;
  Widen widen_;
};

}  // namespace

std::unique_ptr<StoredLines> StoredLines::of(const torch::Tensor& matrix) {
  const bool brain = matrix.scalar_type() == at::kBFloat16;
  if (matrix.dim() != 2 || !matrix.device().is_cpu() || !lies_by_rows(matrix) ||
      (!brain && matrix.scalar_type() != at::kHalf))
    return nullptr;
  const auto& loops = elementwise_loops::best();
  return std::make_unique<HalfLines>(matrix, brain ? loops.from_bfloat16 : loops.from_float16);
}

}  // namespace deeplora
