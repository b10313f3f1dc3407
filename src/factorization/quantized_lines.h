// Frozen matrices in 8 or 4 bits.
#pragma once

#include <torch/types.h>

#include <memory>
#include <string>
#include <vector>

#include "factorization/stored_lines.h"

namespace deeplora {

enum class Quantization { none, int8, nf4 };

/// "none", "int8", "nf4".
const std::vector<std::string>& quantization_names();
/// None for any name but these, which whoever reads a configuration has refused.
Quantization parse_quantization(const std::string& name);
const std::string& to_string(Quantization kind);

/// Whole numbers -127 ... 127 and a scale for every row, as bitsandbytes' Linear8bitLt keeps a weight (LLM.int8,
/// Dettmers et al. 2022, without its outlier columns): W[i, j] = codes[i, j] * largest[i] / 127.
struct Int8Rows {
  torch::Tensor codes;    ///< [m, n] int8
  torch::Tensor largest;  ///< [m] float32: largest absolute value of each row
};

/// QLoRA's NF4 (Dettmers et al. 2023, section 3): blocks of 64 numbers, rows behind each other, each number the nearest
/// of 16 quantiles of the normal distribution times the block's largest absolute value. Those are quantised as well: in
/// blocks of 256, minus the mean of all, by 8-bit numbers whose steps grow with their size.
struct Nf4Blocks {
  static constexpr int64_t kBlock = 64, kNested = 256;
  torch::Tensor codes;           ///< [(m n + 1) / 2] uint8, the first number of two in the upper half
  torch::Tensor nested;          ///< [blocks] uint8
  torch::Tensor nested_largest;  ///< [(blocks + 255) / 256] float32
  float mean = 0;                ///< of the blocks' largest values
};

/// Of a matrix [m, n] in float32, bfloat16 or float16, laid out in any way, on the CPU: lines are read and widened some
/// at a time, in threads. The same bits for any number of threads.
Int8Rows int8_rows(const torch::Tensor& weight);
Nf4Blocks nf4_blocks(const torch::Tensor& weight);

/// The matrix in 8 or 4 bits; lines are rows of `weight`. `kind` is not none.
std::shared_ptr<const StoredLines> quantized_lines(const torch::Tensor& weight, Quantization kind);

}  // namespace deeplora
