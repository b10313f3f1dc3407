// Language codes of translators: mBART, mBART-50 and NLLB.
#pragma once

#include "text/tokenizer_pipeline.h"

namespace deeplora {

/// Where the class that tokenizer_config.json names marks texts with their language: makes `source` the source
/// language's layout and `target` that of the target language. Throws Error when languages are named that the tokenizer
/// does not know, or that it has no use for.
void use_language_codes(const JsonFile& tokenizer, const TokenizerConfig& config, const Languages& languages,
                        const AddedVocabulary& vocabulary, SequenceTemplate& source, TargetLayout& target);

}  // namespace deeplora
