// Byte-level BPE: GPT-2, RoBERTa, SmolLM, Qwen 2, Llama 3. Equal to Hugging Face's tokenizers library.
#pragma once

#include <memory>

#include "text/tokenizer_json.h"

namespace deeplora {

/// True when tokenizer.json describes byte-level BPE: a BPE model whose decoder or pre-tokenizer is
/// ByteLevel.
bool is_byte_bpe(const JsonFile& tokenizer);

/// From tokenizer.json. Throws Error when it uses a component or option that is not supported, naming it.
std::unique_ptr<Tokenizer> make_byte_bpe(const JsonFile& tokenizer, const TokenizerConfig& config);

}  // namespace deeplora
