// BERT and the encoders of its shape: MiniLM, RoBERTa, DistilBERT, ELECTRA (narrow embeddings), ALBERT (one layer, many
// times), MPNet (relative positions).
#pragma once

#include "model_files/model_files.h"
#include "models/packing.h"
#include "models/projection.h"
#include "models/settings.h"
#include "models/weight_map.h"

namespace deeplora {

/// Where a family keeps its weights, below the prefix of its embeddings.
struct EncoderNames {
  std::string layers, query, key, value, attention_output, attention_norm, mlp_in, mlp_out, mlp_norm;
  std::string widening = {};  ///< from the embeddings' width to the layers'
  std::string bias = {};      ///< of relative positions
};

/// What the archive's config.json says, and the sizes of its weights.
struct EncoderConfig : EncoderSettings {
  std::string family;
  EncoderNames names;
  int64_t layers = 0, width = 0, mlp_width = 0, vocabulary = 0, positions = 0;
  int64_t embedding_width = 0;
  int64_t segments = 0;  ///< rows of the token type table; 0 when there is none
};

void register_bert_families(ModelFamilies& families);

}  // namespace deeplora
