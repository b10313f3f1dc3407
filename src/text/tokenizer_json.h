// Reading Hugging Face's tokenizer files: tokenizer.json, tokenizer_config.json, special_tokens_map.json.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/json_file.h"
#include "text/added_tokens.h"
#include "text/sequence_template.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace deeplora {

/// The parsed file, or nothing when it is not there. Throws Error when it is not a JSON object.
std::optional<JsonFile> read_json(const TokenizerFiles& files, const std::string& name);

/// "type" of a component of tokenizer.json such as the normalizer; "" when it is null or absent.
std::string component_type(const nlohmann::json& root, const std::string& component);

/// The model's type; files of older libraries leave it out, so it is told from the model's other keys.
std::string model_type(const JsonFile& tokenizer);

/// "model.vocab" of WordPiece and BPE: an object piece -> id.
Vocabulary read_vocabulary(const JsonFile& tokenizer);

/// "added_tokens"; every one is put into `vocabulary` too.
std::vector<AddedToken> read_added_tokens(const JsonFile& tokenizer, Vocabulary& vocabulary);

/// "post_processor": TemplateProcessing, BertProcessing, RobertaProcessing, a sequence of one of them and
/// ByteLevel, or none.
SequenceTemplate read_template(const JsonFile& tokenizer);

/// What tokenizer_config.json says, completed by special_tokens_map.json.
struct TokenizerConfig : JsonFile {
  TokenizerConfig() : JsonFile{"tokenizer_config.json"} {}

  static TokenizerConfig read(const TokenizerFiles& files);
  /// "pad_token" and the like: a text, or an object with "content". `fallback` when the file is silent; ""
  /// when it says null.
  std::string token(const std::string& key, const std::string& fallback) const;
  /// "truncation_side": true when texts lose their beginning instead of their end.
  bool cut_left() const;
};

/// Ids of the special tokens: named by the configuration, else by what such tokenizers usually call them.
SpecialIds find_special_ids(const TokenizerConfig& config, const Vocabulary& vocabulary);

}  // namespace deeplora
