// Is the native model the file's model? Checked on every load of a file that can run itself, before anything is
// trained.
#pragma once

#include <map>
#include <string>

#include "lm/language_model.h"
#include "model_files/model_files.h"

namespace deeplora {

/// What a model is compared with: the forward pass that its own file holds.
class ReferenceForward {
 public:
  virtual ~ReferenceForward() = default;
  /// The chosen output of a batch; the caller guards gradients.
  virtual torch::Tensor operator()(const Batch& batch) const = 0;
  /// Outputs of its layer norms [B, T, D], in the order in which they are computed; empty where they cannot be had.
  virtual std::vector<torch::Tensor> layer_norms(const Batch&) const { return {}; }
};

/// Rows of token ids [rows, T] of several lengths (if the model takes padding), the same for the same archive. An
/// archive that takes decoder_input_ids gets some too, of another length. `tokens` 0: 12, or as many as a model with
/// fewer positions takes. A program that was exported for fewer rows or other lengths gets the nearest. What rows carry
/// by name is drawn between its least and its most, both of which occur.
Batch probe_batch(const ModelFiles& archive, LanguageModel& model, int64_t tokens = 0, int64_t rows = 2);

/// The tensors of such a batch [rows, shape].
std::map<std::string, torch::Tensor> probe_tensors(const std::vector<TensorInput>& inputs, int64_t rows);

/// The chosen output of a model: hidden or logits.
inline const torch::Tensor& output_of(const ModelOutput& out) { return out.hidden.defined() ? out.hidden : out.logits; }

/// 1 for the cells [B, T] of a 3-D output that count: the tokens of input_ids, or every decoder cell. Undefined where
/// there are no tokens: all count.
torch::Tensor output_mask(const Batch& batch);

/// Largest |a - b| over the largest |b|, in float64 on the CPU; cells of [B, T, D] that are padding in mask [B, T] do
/// not count. An undefined mask hides none.
double relative_difference(const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& mask);

/// The difference that an archive's dtypes allow: 1e-4, or more where it holds half-precision tensors.
double dtype_tolerance(const ModelFiles& archive, double half, double bfloat16);

struct ParityResult {
  bool equal = false;
  double difference = 0;  ///< largest absolute difference on cells that are not padding, relative to the largest value
  std::string message;    ///< where they part: the first inner state that differs, or the output's position
};

/// Compares `model` (eval mode, without adapters) with the file's own forward on probe_batch(). The tolerance is
/// relative to the largest output value; half-precision files get theirs from their dtype.
ParityResult compare_with_reference(const ModelFiles& archive, const ReferenceForward& reference, LanguageModel& model);

}  // namespace deeplora
