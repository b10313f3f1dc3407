// The native model families.
#pragma once

#include "lm/language_model.h"

namespace deeplora {

/// Adds every native family, one line each; the first that recognises an archive builds it.
void register_model_families(ModelFamilies& families);

}  // namespace deeplora
