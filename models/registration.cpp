#include "models/registration.h"

#include "models/bert.h"
#include "models/exported_head.h"

namespace deeplora {

void register_model_families(ModelFamilies& families) {
  ModelFamilies plain("model family");
  register_bert_families(plain);
  register_gpt2_family(plain);
  register_llama_family(plain);
  register_t5_family(plain);
  register_bart_families(plain);
  register_deberta_family(plain);
  register_modernbert_family(plain);
  for (const auto& name : plain.names()) families.add(name, with_exported_head(plain.at(name)));
}

}  // namespace deeplora
