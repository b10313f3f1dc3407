// Reading Hugging Face's tokenizer files: tokenizer.json, tokenizer_config.json, special_tokens_map.json.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/json_file.h"
#include "text/added_tokens.h"
#include "text/token_model.h"
#include "text/tokenizer.h"

namespace deeplora {

/// The parsed file, or nothing when it is not there. Throws Error when it is not a JSON object.
std::optional<JsonFile> read_json(const TokenizerFiles& files, const std::string& name);

/// tokenizer.json, its numbers as the tokenizers library reads them. Throws Error when it is not a JSON object.
JsonFile read_tokenizer_json(const std::string& name, const std::string& content);

/// Keys of tokenizer_config.json that name one token each.
inline constexpr const char* kNamedTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                               "pad_token", "cls_token", "mask_token"};

/// One added token as JSON; its id stays -1 when it has none. `where` for errors.
AddedToken read_added_token(const nlohmann::json& one, const std::string& where);

/// What tokenizer_config.json says, completed by special_tokens_map.json.
struct TokenizerConfig : JsonFile {
  TokenizerConfig() : JsonFile{"tokenizer_config.json"} {}

  static TokenizerConfig read(const TokenizerFiles& files);
  /// "pad_token" and the like: a text, or an object with "content". `fallback` when the file is silent; ""
  /// when it says null.
  std::string token(const std::string& key, const std::string& fallback) const;
  /// The same with its flags; nothing when the file is silent or says null. A plain text is a special token.
  std::optional<AddedToken> added_token(const std::string& key) const;
  /// "tokenizer_class" without "Fast"; "" when it names none, or a general one.
  std::string tokenizer_class() const;
};

/// Tokens that are found in texts, with the ids that the library gives them: that of the model's own piece, or the next
/// that is free.
class AddedVocabulary {
 public:
  explicit AddedVocabulary(const TokenModel& model) : model_(model) {}
  /// Adds tokens, or changes the flags of those of the same content. Empty ones are left out.
  void add(std::vector<AddedToken> tokens);
  bool contains(const std::string& content) const { return by_content_.contains(content); }
  /// The id of an added token or of the model's piece.
  std::optional<int64_t> find(const std::string& content) const;
  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  const TokenModel& model_;
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, size_t> by_content_;
};

/// Adds what tokenizer_config.json lists in added_tokens_decoder, names as special tokens and as further special
/// tokens, as transformers does.
void add_configured_tokens(const TokenizerConfig& config, AddedVocabulary& vocabulary);

}  // namespace deeplora
