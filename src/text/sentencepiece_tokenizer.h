// Sentencepiece models (T5, Llama): spiece.model, tokenizer.model, *.spm.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer_json.h"

namespace deeplora {

/// A sentencepiece model with Hugging Face's special tokens around it.
///
/// The layout comes from tokenizer.json's post_processor when that file is there; else from
/// tokenizer_config.json: T5's `A </s>` and `A </s> B </s>` with extra ids behind the vocabulary, or Llama's
/// `<s> A` and `<s> A <s> B`, switched by add_bos_token and add_eos_token. Without a tokenizer_class, a model
/// whose pad and eos ids are 0 and 1 is T5's. `legacy: false` puts sentencepiece's dummy prefix at the start
/// of the text only, not behind added tokens. Throws Error naming `file` when the bytes are no sentencepiece
/// model, when tokenizer.json numbers its pieces otherwise or cleans the text in a way that sentencepiece
/// does not, and for a tokenizer_class with another layout (ALBERT, XLM-R...).
std::unique_ptr<Tokenizer> make_sentencepiece(const std::string& file, const std::string& model,
                                              const std::optional<JsonFile>& tokenizer,
                                              const TokenizerConfig& config);

/// Names under which such a model is looked for.
std::vector<std::string> sentencepiece_file_names();

}  // namespace deeplora
