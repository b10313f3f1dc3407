// Softmax attention over packed sequences, without padding and without a [T, T] matrix in memory.
#pragma once

#include <torch/types.h>

#include <vector>

namespace deeplora {

/// cos and sin [N, d / 2] float32 of the tokens' rotary angles (Su et al. 2021, arXiv 2104.09864); undefined: none.
struct RotaryAngles {
  torch::Tensor cosines, sines;
};

/// How sequences attend.
struct SequenceAttentionShape {
  int64_t heads = 1, kv_heads = 1;  ///< heads of q, and of k and v; heads / kv_heads of q share one of theirs
  double scale = 0;                 ///< of the scores; 0: 1 / sqrt(d)
  bool first_only =
      false;            ///< q has one row for every sequence, its first token's, and so has the output; not causal then
  bool causal = false;  ///< a token looks at itself and those before it
  int64_t window =
      0;  ///< and at none `window` or more tokens away, on either side where it looks both ways; 0: at all of them
  double dropout = 0;  ///< of the weights (mask from a drawn seed)
};

/// Softmax(scale q k^T) v, sequence by sequence and head by head, of q [N, H d] (or [B, H d]: shape.first_only) and k,
/// v [N, G d] that can_attend_packed() takes, q and k turned by their angles first. Sequence s has the rows offsets[s]
/// .. offsets[s + 1] - 1, so offsets has one more entry than there are sequences; rows behind the last are zero in the
/// output and in the gradients. Keeps q, k, v, the output and one number per row and head for the backward pass and
/// computes the weights again there (Dao et al. 2022). [N, H d], or [B, H d] of B first tokens, zeros for a sequence
/// without any.
torch::Tensor sequence_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                                 const SequenceAttentionShape& shape, const std::vector<int64_t>& offsets,
                                 const RotaryAngles& angles = {});

/// Whether sequence_attention() takes these: on the CPU, float32, or bfloat16 from autocast, which it widens; not
/// empty.
bool can_attend_packed(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v);

}  // namespace deeplora
