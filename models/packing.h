// Tokens without padding: linear layers see [N, D], attention sees [B, H, T, D/H].
#pragma once

#include <torch/types.h>

#include <vector>

namespace deeplora {

/// A score of what is not to be seen. Not -inf: a row without any token stays finite.
inline constexpr double kHiddenScore = -1e30;

/// Which cells of a [B, T] batch hold tokens. Built once per forward, shared by every layer. Under the CPU's autocast N
/// is rounded up to a multiple of 32, the rows of one block of the matrix units: oneDNN compiles a kernel for every
/// number of rows that it has not met, milliseconds for each. The spare rows, behind those of the last sequence, repeat
/// the first token; nothing reads them, so their gradients are zero. Without a mask N is B T and nothing else.
class Packing {
 public:
  /// mask [B, T], 1 for a token; undefined: every cell is one.
  Packing(const torch::Tensor& mask, int64_t batch, int64_t tokens, torch::Device device);

  /// [B, T, ...] -> [N, ...]
  torch::Tensor pack(const torch::Tensor& padded) const;
  /// [N, D] -> [B, T, D], zeros at padding.
  torch::Tensor unpack(const torch::Tensor& packed) const;
  /// [B, 1, 1, T] bool for attention (true: attend), undefined when nothing is padded.
  const torch::Tensor& attention_mask() const { return attention_mask_; }
  /// Scores [1, H, T, T] with those of padding hidden: [B, H, T, T], or as they are when nothing is padded.
  torch::Tensor without_padding(const torch::Tensor& scores) const;
  /// What attention needs to look at these cells again from other rows, rows [B'] indices into the batch: only its mask
  /// is kept.
  Packing rows(const torch::Tensor& rows) const;
  /// [N, D] -> [B, D]: the first token of every row. has_first_tokens() must hold.
  torch::Tensor first_tokens(const torch::Tensor& packed) const;
  /// Whether every row of the batch begins with a token.
  bool has_first_tokens() const;
  /// Whether every row's tokens stand side by side, so that tokens and cells are as far apart.
  bool has_no_gaps() const;
  int64_t batch() const { return batch_; }
  int64_t tokens() const { return tokens_; }
  /// Row s of the batch has the packed rows offsets()[s] .. offsets()[s + 1] - 1.
  const std::vector<int64_t>& offsets() const { return offsets_; }

 private:
  int64_t batch_, tokens_;
  torch::Tensor index_;  ///< [N] flat cells, undefined when they are all cells in order
  int64_t spare_ = 0;    ///< rows at the end of N that stand for no token
  torch::Tensor attention_mask_;
  std::vector<int64_t> offsets_;
};

/// Softmax attention over packed queries, keys and values [N, D] with `heads` heads -> [N, D]; with `first_only` of the
/// first tokens' queries [B, D] -> [B, D].
torch::Tensor packed_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, int64_t heads,
                               const Packing& packing, double dropout, bool first_only = false);

/// The same with something added to the scores: bias [1, H, T, T], or [B, H, T, T], as Packing::without_padding() gives
/// it; with `first_only` its first row counts.
torch::Tensor biased_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, int64_t heads,
                               const Packing& packing, const torch::Tensor& bias, double dropout,
                               bool first_only = false);

}  // namespace deeplora
