// The one tokenizer there is: normalizers, pre-tokenizers, a model, a layout and decoders, as a tokenizer.json
// describes them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/sequence_template.h"
#include "text/tokenizer_json.h"

namespace deeplora {

/// What a text that the model is to write gets instead of the source's layout; empty: the same.
struct TargetLayout {
  std::optional<SequenceTemplate> layout;
  std::string missing;  ///< why there is none although there should be; encode_target throws it
};

/// A tokenizer.json, or the same made of other files, and what tokenizer_config.json says of it.
std::unique_ptr<Tokenizer> make_pipeline(const JsonFile& tokenizer, const TokenizerConfig& config,
                                         const Languages& languages);

}  // namespace deeplora
