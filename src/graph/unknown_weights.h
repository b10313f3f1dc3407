// Weights that the archive's forward reads and a native family knows nothing of.
#pragma once

#include "lm/language_model.h"
#include "model_files/code_files.h"

namespace deeplora {

/// Throws Error when the archive's forward reads parameters beside the modules that `model`, a native family's, was
/// built of: the model then is the inner part of another. Never runs the archive's code; nothing is said of a forward
/// that cannot be followed.
void check_reads_nothing_beside(const CodeFiles& archive, LanguageModel& model);

}  // namespace deeplora
