#include "text/tokenizer.h"

#include "core/error.h"
#include "text/byte_bpe.h"
#include "text/sentencepiece_model.h"
#include "text/sentencepiece_tokenizer.h"
#include "text/tokenizer_json.h"
#include "text/wordpiece.h"

namespace deeplora {
namespace {

std::unique_ptr<Tokenizer> from_tokenizer_json(const TokenizerFiles& files, const TokenizerConfig& config) {
  const auto tokenizer = read_json(files, "tokenizer.json");
  if (!tokenizer) return nullptr;
  const std::string type = model_type(*tokenizer);
  if (type == "WordPiece") return make_wordpiece(*tokenizer, config);
  if (is_byte_bpe(*tokenizer)) return make_byte_bpe(*tokenizer, config);
  // The rest can only be a conversion of a sentencepiece model: the model itself where it is there too.
  check(type == "Unigram" || type == "BPE", tokenizer->name, ": a tokenizer of type '", type,
        "' is not supported; supported: WordPiece, byte-level BPE, Unigram and BPE as converted from sentencepiece");
  for (const auto& name : sentencepiece_file_names())
    if (const auto model = files(name)) return make_sentencepiece(name, *model, tokenizer, config);
  return make_sentencepiece(tokenizer->name, sentencepiece_model(*tokenizer), tokenizer, config);
}

std::unique_ptr<Tokenizer> from_sentencepiece(const TokenizerFiles& files, const TokenizerConfig& config) {
  for (const auto& name : sentencepiece_file_names())
    if (const auto model = files(name)) return make_sentencepiece(name, *model, std::nullopt, config);
  return nullptr;
}

std::unique_ptr<Tokenizer> from_vocab_txt(const TokenizerFiles& files, const TokenizerConfig& config) {
  const auto content = files("vocab.txt");
  return content ? make_wordpiece(*content, config) : nullptr;
}

}  // namespace

std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerFiles& files) {
  const TokenizerConfig config = TokenizerConfig::read(files);
  try {
    for (const auto recogniser : {from_tokenizer_json, from_sentencepiece, from_vocab_txt})
      if (auto found = recogniser(files, config)) return found;
  } catch (const nlohmann::json::exception& e) {
    fail("tokenizer.json or ", config.name, ": not laid out as the tokenizers library writes it: ", e.what());
  }
  return nullptr;
}

std::vector<std::string> tokenizer_file_names() {
  std::vector<std::string> names{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                 "vocab.txt"};
  for (auto& name : sentencepiece_file_names()) names.push_back(std::move(name));
  return names;
}

}  // namespace deeplora
