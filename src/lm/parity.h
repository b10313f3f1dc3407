// Is the native model the archive's model? Checked on every load, before anything is trained.
#pragma once

#include <string>

#include "lm/archive.h"
#include "lm/language_model.h"

namespace deeplora {

/// Two rows of token ids, one of them padded (if the model takes padding), the same for the same archive: [2, T].
Batch probe_batch(const TorchScriptArchive& archive, LanguageModel& model, int64_t tokens = 12);

/// The chosen output of a model: hidden or logits.
inline const torch::Tensor& output_of(const ModelOutput& out) { return out.hidden.defined() ? out.hidden : out.logits; }

struct ParityResult {
  bool equal = false;
  double difference = 0;  ///< largest absolute difference on cells that are not padding, relative to the largest value
  std::string message;    ///< where they part: the first inner state that differs, or the output's position
};

/// Compares `model` (eval mode, without adapters) with the archive's own forward on probe_batch(). `tolerance` is relative
/// to the largest output value; half-precision archives get theirs from their dtype.
ParityResult compare_with_archive(const TorchScriptArchive& archive, const ArchiveInterface& interface, LanguageModel& model);

}  // namespace deeplora
