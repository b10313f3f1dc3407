// A sentencepiece model from tokenizer.json, for archives that carry only the conversion.
#pragma once

#include <string>

#include "text/tokenizer_json.h"

namespace deeplora {

/// The serialised ModelProto that sentencepiece's own library loads, of a tokenizer.json whose model is Unigram (T5 and its
/// like) or BPE with byte_fallback or "▁" for spaces (Llama, Mistral, Gemma). Merges become scores: sentencepiece joins the
/// pair whose piece scores highest, the tokenizers library the one whose merge stands first. Throws Error for components that
/// sentencepiece has no counterpart of.
std::string sentencepiece_model(const JsonFile& tokenizer);

}  // namespace deeplora
