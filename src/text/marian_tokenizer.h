// Marian's tokenizer: sentencepiece itself, one model for each language, and a vocabulary over both.
#pragma once

#include <memory>

#include "text/tokenizer_json.h"

namespace deeplora {

/// From source.spm, target.spm and vocab.json (and target_vocab.json with separate_vocabs). Throws Error when one is
/// missing or broken.
std::unique_ptr<Tokenizer> make_marian(const TokenizerFiles& files, const TokenizerConfig& config);

}  // namespace deeplora
