// The native model families.
#pragma once

#include "lm/language_model.h"

namespace deeplora {

/// Adds every native family, one line each; the first that recognises an archive builds it.
void register_model_families(ModelFamilies& families);

void register_bart_families(ModelFamilies& families);
void register_deberta_family(ModelFamilies& families);
void register_gpt2_family(ModelFamilies& families);
void register_llama_family(ModelFamilies& families);
void register_modernbert_family(ModelFamilies& families);
void register_t5_family(ModelFamilies& families);

}  // namespace deeplora
