#include "models/registration.h"

#include "models/bert.h"

namespace deeplora {

void register_model_families(ModelFamilies& families) {
  register_bert_families(families);
}

}  // namespace deeplora
