// Generating token after token from a batch of prompts, keeping what the model computed for the tokens before.
#pragma once

#include <torch/types.h>

namespace deeplora {

/// Incremental decoding of a batch of rows; what LanguageModel::begin_decoding() gives. Used without gradients and in
/// eval mode. Adapters may not change while a state lives.
class DecodingState {
 public:
  virtual ~DecodingState() = default;
  /// Logits of every row's next token, [B, V].
  virtual torch::Tensor logits() const = 0;
  /// Appends the chosen tokens, ids [B] int64 on the model's device, one per row.
  virtual void advance(const torch::Tensor& ids) = 0;
  /// Rows that go on, [B'] int64 indices into the present rows: a row may be repeated (beams) or left out (finished),
  /// so B' may differ from B.
  virtual void reorder(const torch::Tensor& rows) = 0;
};

}  // namespace deeplora
