#include "models/registration.h"

#include "models/bert.h"

namespace deeplora {

void register_model_families(ModelFamilies& families) {
  register_bert_families(families);
  register_gpt2_family(families);
  register_llama_family(families);
  register_t5_family(families);
  register_bart_families(families);
}

}  // namespace deeplora
