// Which class of transformers reads a folder's tokenizer files.
#pragma once

#include <string>

#include "text/tokenizer_json.h"

namespace deeplora {

/// The class without one of its own: whatever tokenizer.json or a bare tokenizer.model says.
inline constexpr const char* kGeneralTokenizer = "TokenizersBackend";

/// The class that AutoTokenizer of transformers 5.23 takes, without "Fast": a folder may name one, but kinds of models
/// whose class is the general one have that whatever they name (Mistral's folders say LlamaTokenizer and are not read
/// by it), and some folders are known to name a wrong one.
/// "" when neither `config` (tokenizer_config.json) nor `model` (config.json) tells. Throws Error for a tokenizer that
/// is code of its own.
std::string reading_class(const TokenizerConfig& config, const JsonFile& model);

}  // namespace deeplora
