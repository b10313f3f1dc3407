// Tokenizers from files other than tokenizer.json, by the class that tokenizer_config.json names.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/tokenizer_json.h"

namespace deeplora {

/// The tokenizer that transformers makes of vocab.txt, of vocab.json and merges.txt, or of a sentencepiece model, or
/// nullptr when none of these is there. Throws Error, naming it, for a class that needs another program (MeCab, jieba)
/// or is not known, and for the vocabularies of other programs (tekken.json, tiktoken.model).
std::unique_ptr<Tokenizer> make_from_layout(const TokenizerFiles& files, TokenizerConfig config,
                                            const Languages& languages);

/// Names of the files that it may ask for, beside the model's config.json.
std::vector<std::string> layout_file_names();
/// Names of other programs' vocabularies, which it refuses by name.
std::vector<std::string> foreign_file_names();

}  // namespace deeplora
