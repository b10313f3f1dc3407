#include "text/tokenizer_json.h"

#include <algorithm>
#include <cstdlib>

namespace deeplora {
namespace {

using nlohmann::json;

/// A text or an object with "content".
AddedToken special_token(const json& value, const std::string& where) {
  AddedToken out;
  if (value.is_string()) {
    out.content = value.get<std::string>();
    out.normalized = false;
  } else {
    out = read_added_token(value, where);
  }
  out.special = true;
  return out;
}

/// A number as the library's JSON reader understands it: the digits as a whole number, rounded, then divided or
/// multiplied by a power of ten, rounded again. Scores of pieces that are a last bit apart decide between cuts of the
/// same sum.
double library_number(const std::string& text) {
  uint64_t digits = 0;
  int exponent = 0;
  bool fraction = false, full = false;
  size_t at = text.starts_with('-') ? 1 : 0;
  for (; at < text.size() && text[at] != 'e' && text[at] != 'E'; ++at) {
    if (text[at] == '.') {
      fraction = true;
      full = false;
      continue;
    }
    const auto digit = static_cast<uint64_t>(text[at] - '0');
    full = full || digits > (UINT64_MAX - digit) / 10;
    if (!full) digits = digits * 10 + digit;
    if (full != fraction) exponent += fraction ? -1 : 1;
  }
  if (at < text.size()) exponent += std::atoi(text.c_str() + at + 1);
  auto value = static_cast<double>(digits);
  constexpr int kMost = 308;
  for (; exponent < -kMost && value != 0; exponent += kMost) value /= 1e308;
  const double power = std::strtod(cat("1e", std::min(std::abs(exponent), kMost)).c_str(), nullptr);
  value = exponent < 0 ? value / power : value * power;
  return text.starts_with('-') ? -value : value;
}

/// Builds JSON with numbers as above.
class LibraryReader : public nlohmann::detail::json_sax_dom_parser<json> {
 public:
  using json_sax_dom_parser::json_sax_dom_parser;
  bool number_float(double /*value*/, const std::string& text) {
    return json_sax_dom_parser::number_float(library_number(text), text);
  }
};

}  // namespace

JsonFile read_tokenizer_json(const std::string& name, const std::string& content) {
  check(!nests_too_deep(content), name, ": nests deeper than ", kDeepestJson, " levels");
  JsonFile out{name, {}};
  LibraryReader reader(out.root, true);
  try {
    json::sax_parse(content, &reader);
  } catch (const json::exception& e) {
    fail(name, ": not valid JSON: ", e.what());
  }
  check(out.root.is_object(), name, ": expected a JSON object, found ", out.root.type_name());
  return out;
}

std::optional<JsonFile> read_json(const TokenizerFiles& files, const std::string& name) {
  const std::optional<std::string> content = files(name);
  if (!content) return std::nullopt;
  return JsonFile::parse(name, *content);
}

AddedToken read_added_token(const json& one, const std::string& where) {
  check(one.is_object(), where, " holds ", shown(one), "; expected objects");
  const auto flag = [&](const char* key, bool fallback) { return json_value<bool>(one, key, fallback, where); };
  AddedToken token;
  token.id = json_value<int64_t>(one, "id", -1, where);
  token.content = json_value<std::string>(one, "content", "", where);
  token.special = flag("special", false);
  token.single_word = flag("single_word", false);
  token.lstrip = flag("lstrip", false);
  token.rstrip = flag("rstrip", false);
  token.normalized = flag("normalized", !token.special);
  return token;
}

TokenizerConfig TokenizerConfig::read(const TokenizerFiles& files) {
  TokenizerConfig out;
  if (auto config = read_json(files, out.name)) out.root = std::move(config->root);
  // As in transformers: a configuration that lists its added tokens needs no map, one that does not gives way to it.
  if (const auto map = read_json(files, "special_tokens_map.json"); map && !out.has("added_tokens_decoder"))
    for (const auto& [key, value] : map->root.items()) out.root[key] = value;
  return out;
}

std::string TokenizerConfig::token(const std::string& key, const std::string& fallback) const {
  const auto found = root.find(key);
  if (found == root.end()) return fallback;
  if (found->is_null()) return "";
  if (found->is_object()) return json_value<std::string>(*found, "content", "", name);
  check(found->is_string(), name, ": ", key, " is ", shown(*found), "; expected a text");
  return found->get<std::string>();
}

std::optional<AddedToken> TokenizerConfig::added_token(const std::string& key) const {
  const std::string content = token(key, "");
  if (content.empty()) return std::nullopt;
  return special_token(root[key], cat(name, ": ", key));
}

std::string TokenizerConfig::tokenizer_class() const {
  auto out = value<std::string>("tokenizer_class", "");
  if (out.ends_with("Fast")) out.erase(out.size() - 4);
  return out == "PreTrainedTokenizer" || out == "TokenizersBackend" ? "" : out;
}

void AddedVocabulary::add(std::vector<AddedToken> tokens) {
  int64_t largest = -1;
  for (const AddedToken& one : tokens_) largest = std::max(largest, one.id);
  int64_t next = std::max(largest + 1, model_.count());
  for (AddedToken& token : tokens) {
    if (token.content.empty()) continue;
    const auto known = by_content_.find(token.content);
    if (known != by_content_.end()) {
      AddedToken& old = tokens_[known->second];
      token.id = old.id;
      token.special = token.special || old.special;  // once special, always special to the decoder
      old = std::move(token);
      continue;
    }
    const auto own = model_.vocabulary().find(token.content);
    token.id = own ? *own : next++;
    by_content_[token.content] = tokens_.size();
    tokens_.push_back(std::move(token));
  }
}

std::optional<int64_t> AddedVocabulary::find(const std::string& content) const {
  const auto found = by_content_.find(content);
  return found == by_content_.end() ? model_.vocabulary().find(content) : tokens_[found->second].id;
}

void add_configured_tokens(const TokenizerConfig& config, AddedVocabulary& vocabulary) {
  std::vector<AddedToken> tokens;
  const auto listed = config.root.find("added_tokens_decoder");
  if (listed != config.root.end() && listed->is_object()) {
    for (const auto& [id, token] : listed->items()) {
      tokens.push_back(read_added_token(token, cat(config.name, ": added_tokens_decoder")));
      tokens.back().id = std::strtoll(id.c_str(), nullptr, 10);
    }
    std::sort(tokens.begin(), tokens.end(), [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  }
  std::unordered_set<std::string> there;
  for (const AddedToken& token : tokens) there.insert(token.content);
  const auto add_missing = [&](AddedToken token) {
    if (!vocabulary.contains(token.content) && there.insert(token.content).second) tokens.push_back(std::move(token));
  };
  for (const char* key : kNamedTokens)
    if (auto token = config.added_token(key)) add_missing(std::move(*token));
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    const auto more = config.root.find(key);
    if (more == config.root.end() || more->is_null()) continue;
    check(more->is_array() || more->is_object(), config.name, ": ", key, " is ", shown(*more),
          "; expected a list of tokens");
    for (const json& one : *more) {
      AddedToken token = special_token(one, cat(config.name, ": ", key));
      if (one.is_object()) token.special = json_value<bool>(one, "special", true, config.name);
      add_missing(std::move(token));
    }
  }
  vocabulary.add(std::move(tokens));
}

}  // namespace deeplora
