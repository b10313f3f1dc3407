#include "models/registration.h"

#include "models/exported_head.h"

/// A line a file: the function of it that adds its families.
#define DEEPLORA_MODEL_FAMILIES(FAMILIES) \
  FAMILIES(register_bert_families)        \
  FAMILIES(register_gpt2_family)          \
  FAMILIES(register_llama_family)         \
  FAMILIES(register_t5_family)            \
  FAMILIES(register_bart_families)        \
  FAMILIES(register_deberta_family)       \
  FAMILIES(register_modernbert_family)

namespace deeplora {

#define DECLARE(add) void add(ModelFamilies& families);
DEEPLORA_MODEL_FAMILIES(DECLARE)
#undef DECLARE

void register_model_families(ModelFamilies& families) {
  ModelFamilies plain("model family");
#define ADD(add) add(plain);
  DEEPLORA_MODEL_FAMILIES(ADD)
#undef ADD
  for (const auto& name : plain.names()) families.add(name, with_exported_head(plain.at(name)));
}

}  // namespace deeplora
