// Frozen matrices in a narrower type than the one that is computed in, widened where a product reads them.
#pragma once

#include <torch/types.h>

#include <memory>

namespace deeplora {

/// A matrix of `lines` lines, each of `length` numbers that lie side by side. Several threads may read one.
class StoredLines {
 public:
  StoredLines(int64_t lines, int64_t length) : lines_(lines), length_(length) {}
  virtual ~StoredLines() = default;
  int64_t lines() const { return lines_; }
  int64_t length() const { return length_; }
  /// Numbers first, ..., first + count - 1 of a line, in float32.
  virtual void read(int64_t line, int64_t first, int64_t count, float* to) const = 0;

  /// Of a matrix [lines, length] in bfloat16 or float16 on the CPU, by rows; null for any other. Keeps the tensor.
  static std::unique_ptr<StoredLines> of(const torch::Tensor& matrix);

 private:
  int64_t lines_, length_;
};

}  // namespace deeplora
