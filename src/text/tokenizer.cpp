#include "text/tokenizer.h"

#include "core/error.h"
#include "text/tokenizer_layouts.h"
#include "text/tokenizer_pipeline.h"

namespace deeplora {

std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerFiles& files, const Languages& languages) {
  TokenizerConfig config = TokenizerConfig::read(files);
  try {
    if (const auto content = files("tokenizer.json"))
      return make_pipeline(read_tokenizer_json("tokenizer.json", *content), config, languages);
    return make_from_layout(files, std::move(config), languages);
  } catch (const nlohmann::json::exception& e) {
    fail("tokenizer.json or ", config.name, ": not laid out as the tokenizers library writes it: ", e.what());
  }
}

Encoding Tokenizer::surround(std::vector<int64_t> /*ids*/, size_t& /*begin*/) const {
  fail("a tokenizer of kind ", kind(), " encodes whole texts alone, no words one by one");
}

std::vector<std::string> tokenizer_file_names() {
  std::vector<std::string> names{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"};
  for (auto& name : layout_file_names()) names.push_back(std::move(name));
  return names;
}

}  // namespace deeplora
