// A model whose linear layers read their weights in 8 or 4 bits.
#pragma once

#include <set>
#include <string>

#include "lm/language_model.h"

namespace deeplora {

struct QuantizedWeights {
  std::set<std::string> names;  ///< in the model's files
  int64_t bytes = 0;            ///< of all of them as they are kept now
};

/// Of every linear layer but heads and a language model's output layer, as transformers leaves those out with
/// bitsandbytes; tables, norms and biases stay as they are too. The sites' weights go on being those of the files.
/// Throws Error for a model that has no such layers, or whose layers cannot do that.
QuantizedWeights quantize_linear_layers(LanguageModel& model, Quantization kind);

}  // namespace deeplora
