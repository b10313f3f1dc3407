#include "text/tokenizer.h"

#include "text/tokenizer_json.h"
#include "text/wordpiece.h"

namespace deeplora {
namespace {

std::unique_ptr<Tokenizer> from_tokenizer_json(const TokenizerFiles& files, const TokenizerConfig& config) {
  const auto tokenizer = read_json(files, "tokenizer.json");
  if (!tokenizer) return nullptr;
  const std::string type = model_type(*tokenizer);
  if (type == "WordPiece") return make_wordpiece(*tokenizer, config);
  fail(tokenizer->name, ": a tokenizer of type '", type, "' is not supported; known: WordPiece");
}

std::unique_ptr<Tokenizer> from_vocab_txt(const TokenizerFiles& files, const TokenizerConfig& config) {
  const auto content = files("vocab.txt");
  return content ? make_wordpiece(*content, config) : nullptr;
}

}  // namespace

std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerFiles& files) {
  const TokenizerConfig config = TokenizerConfig::read(files);
  for (const auto recogniser : {from_tokenizer_json, from_vocab_txt})
    if (auto found = recogniser(files, config)) return found;
  return nullptr;
}

std::vector<std::string> tokenizer_file_names() {
  return {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"};
}

}  // namespace deeplora
