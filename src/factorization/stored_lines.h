// Frozen matrices in the type that they are kept in, which may be narrower than the one that is computed in: widened
// where a product reads them.
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
  /// A line where it lies in float32 already; null where it has to be read.
  virtual const float* in_place(int64_t /*line*/) const { return nullptr; }
  /// Whether its numbers are bfloat16 numbers, so that rounding to those changes none.
  virtual bool in_bfloat16() const { return false; }
  /// Memory that it takes.
  virtual int64_t bytes() const = 0;

  /// Of a matrix [lines, length] in float32, bfloat16 or float16 on the CPU, by rows; null for any other. Keeps the
  /// tensor.
  static std::unique_ptr<StoredLines> of(const torch::Tensor& matrix);

 private:
  int64_t lines_, length_;
};

}  // namespace deeplora
