#include "text/tokenizer_json.h"

#include <algorithm>

namespace deeplora {
namespace {

using nlohmann::json;
using Kind = LayoutPiece::Kind;

const json& component(const json& root, const std::string& key) {
  static const json kNone;
  const auto found = root.find(key);
  return found == root.end() ? kNone : *found;
}

/// ["[SEP]", 102] of BertProcessing and RobertaProcessing.
int64_t pair_id(const JsonFile& file, const json& processor, const char* key) {
  const json& value = component(processor, key);
  check(value.is_array() && value.size() == 2 && value[1].is_number_integer(), file.name, ": post_processor.",
        key, " is ", value.dump(), R"(; expected ["token", id])");
  return value[1].get<int64_t>();
}

SequenceTemplate roberta_template(int64_t cls, int64_t sep) {
  SequenceTemplate out;
  out.single = {{Kind::special, cls, 0}, {Kind::first, -1, 0}, {Kind::special, sep, 0}};
  out.pair = out.single;
  out.pair.push_back({Kind::special, sep, 0});
  out.pair.push_back({Kind::second, -1, 0});
  out.pair.push_back({Kind::special, sep, 0});
  return out;
}

/// Appends one place of TemplateProcessing; a special token there may stand for several ids.
void read_layout_piece(const JsonFile& file, const json& processor, const json& place,
                       std::vector<LayoutPiece>& out) {
  check(place.is_object() && place.size() == 1, file.name, ": post_processor holds ", place.dump(),
        R"(; expected {"Sequence": ...} or {"SpecialToken": ...})");
  const std::string what = place.begin().key();
  const json& value = place.begin().value();
  const auto id = json_value<std::string>(value, "id", "", file.name);
  const auto type_id = json_value<int64_t>(value, "type_id", 0, file.name);
  if (what == "Sequence") {
    check(id == "A" || id == "B", file.name, ": post_processor names a sequence '", id, "'; expected A or B");
    out.push_back({id == "A" ? Kind::first : Kind::second, -1, type_id});
    return;
  }
  const json& ids = component(component(component(processor, "special_tokens"), id), "ids");
  check(what == "SpecialToken" && ids.is_array(), file.name, ": post_processor uses '", id,
        "', but its special_tokens have no ids for it");
  for (const auto one : json_as<std::vector<int64_t>>(ids, cat(file.name, ": post_processor.special_tokens.", id, ".ids")))
    out.push_back({Kind::special, one, type_id});
}

bool places(const std::vector<LayoutPiece>& layout, Kind kind) {
  return std::any_of(layout.begin(), layout.end(), [kind](const LayoutPiece& piece) { return piece.kind == kind; });
}

/// A layout that leaves a text out would drop it silently; the tokenizers library refuses to make one too.
SequenceTemplate read_template(const JsonFile& file, const json& processor) {
  SequenceTemplate out;
  out.single.clear();
  for (const json& place : component(processor, "single")) read_layout_piece(file, processor, place, out.single);
  check(places(out.single, Kind::first) && !places(out.single, Kind::second), file.name,
        ": post_processor.single places ", places(out.single, Kind::second) ? "a second text (B)" : "no text (A)", "; expected A alone");
  if (component(processor, "pair").is_null()) return out;  // A and B, as the library has it
  out.pair.clear();
  for (const json& place : component(processor, "pair")) read_layout_piece(file, processor, place, out.pair);
  check(places(out.pair, Kind::first) && places(out.pair, Kind::second), file.name, ": post_processor.pair places only one of the two texts; expected A and B");
  return out;
}

SequenceTemplate read_processor(const JsonFile& file, const json& processor) {
  const std::string type =
      processor.is_null() ? "" : json_value<std::string>(processor, "type", "", file.name);
  if (type.empty() || type == "ByteLevel") return {};  // ByteLevel only moves offsets
  if (type == "BertProcessing")
    return bert_template(pair_id(file, processor, "cls"), pair_id(file, processor, "sep"));
  if (type == "RobertaProcessing")
    return roberta_template(pair_id(file, processor, "cls"), pair_id(file, processor, "sep"));
  if (type == "Sequence") {
    std::optional<SequenceTemplate> found;
    for (const json& one : component(processor, "processors")) {
      if (json_value<std::string>(one, "type", "", file.name) == "ByteLevel") continue;
      check(!found, file.name,
            ": post_processor is a sequence of more than one layout, which is not supported");
      found = read_processor(file, one);
    }
    return found.value_or(SequenceTemplate{});
  }
  check(type == "TemplateProcessing", file.name, ": post_processor '", type, "' is not supported; known: ",
        "TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel, Sequence");
  return read_template(file, processor);
}

int64_t id_of_first(const Vocabulary& vocabulary, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const auto id = vocabulary.find(name)) return *id;
  return -1;
}

}  // namespace

std::optional<JsonFile> read_json(const TokenizerFiles& files, const std::string& name) {
  const std::optional<std::string> content = files(name);
  if (!content) return std::nullopt;
  return JsonFile::parse(name, *content);
}

std::string component_type(const json& root, const std::string& key) {
  const json& value = component(root, key);
  return value.is_object() ? json_value<std::string>(value, "type", "", "tokenizer.json") : "";
}

std::string model_type(const JsonFile& tokenizer) {
  const std::string type = component_type(tokenizer.root, "model");
  const json& model = component(tokenizer.root, "model");
  check(model.is_object(), tokenizer.name, ": has no \"model\"; was it written by the tokenizers library?");
  if (!type.empty()) return type;
  if (model.contains("max_input_chars_per_word")) return "WordPiece";
  if (model.contains("merges")) return "BPE";
  return component(model, "vocab").is_array() ? "Unigram" : "WordLevel";
}

Vocabulary read_vocabulary(const JsonFile& tokenizer) {
  const json& vocabulary = component(component(tokenizer.root, "model"), "vocab");
  check(vocabulary.is_object() && !vocabulary.empty(), tokenizer.name,
        ": model.vocab is missing, empty or no object; expected {\"piece\": id, ...}");
  Vocabulary out;
  for (const auto& [piece, id] : vocabulary.items()) {
    check(id.is_number_integer(), tokenizer.name, ": model.vocab: the id of '", piece, "' is ", id.dump(),
          "; expected a whole number");
    out.set(piece, id.get<int64_t>());
  }
  return out;
}

std::vector<AddedToken> read_added_tokens(const JsonFile& tokenizer, Vocabulary& vocabulary) {
  std::vector<AddedToken> out;
  for (const json& one : component(tokenizer.root, "added_tokens")) {
    check(one.is_object(), tokenizer.name, ": added_tokens holds ", one.dump(), "; expected objects");
    const auto flag = [&](const char* key, bool fallback) {
      return json_value<bool>(one, key, fallback, tokenizer.name);
    };
    AddedToken token;
    token.id = json_value<int64_t>(one, "id", -1, tokenizer.name);
    token.content = json_value<std::string>(one, "content", "", tokenizer.name);
    token.special = flag("special", false);
    token.single_word = flag("single_word", false);
    token.lstrip = flag("lstrip", false);
    token.rstrip = flag("rstrip", false);
    token.normalized = flag("normalized", !token.special);
    check(token.id >= 0 && !token.content.empty(), tokenizer.name, ": added_tokens: ", one.dump(),
          " lacks an id or a content");
    vocabulary.set(token.content, token.id);
    out.push_back(std::move(token));
  }
  return out;
}

SequenceTemplate read_template(const JsonFile& tokenizer) {
  return read_processor(tokenizer, component(tokenizer.root, "post_processor"));
}

TokenizerConfig TokenizerConfig::read(const TokenizerFiles& files) {
  TokenizerConfig out;
  if (auto config = read_json(files, out.name)) out.root = std::move(config->root);
  if (const auto map = read_json(files, "special_tokens_map.json"))
    for (const auto& [key, value] : map->root.items())
      if (!out.root.contains(key)) out.root[key] = value;
  return out;
}

std::string TokenizerConfig::token(const std::string& key, const std::string& fallback) const {
  const auto found = root.find(key);
  if (found == root.end()) return fallback;
  if (found->is_null()) return "";
  if (found->is_object()) return json_value<std::string>(*found, "content", "", name);
  check(found->is_string(), name, ": ", key, " is ", found->dump(), "; expected a text");
  return found->get<std::string>();
}

bool TokenizerConfig::cut_left() const {
  const auto side = value<std::string>("truncation_side", "right");
  check(side == "left" || side == "right", name, ": truncation_side is '", side, "'; expected left or right");
  return side == "left";
}

SpecialIds find_special_ids(const TokenizerConfig& config, const Vocabulary& vocabulary) {
  const auto find = [&](const char* key, std::initializer_list<const char*> usual) -> int64_t {
    const std::string named = config.token(key, "");
    if (!named.empty()) return vocabulary.find(named).value_or(-1);
    return config.root.contains(key) ? -1 : id_of_first(vocabulary, usual);
  };
  SpecialIds out;
  out.pad = find("pad_token", {"[PAD]", "<pad>"});
  out.unk = find("unk_token", {"[UNK]", "<unk>"});
  out.cls = find("cls_token", {"[CLS]"});
  out.sep = find("sep_token", {"[SEP]"});
  out.mask = find("mask_token", {"[MASK]", "<mask>"});
  out.bos = find("bos_token", {"<s>", "<|startoftext|>"});
  out.eos = find("eos_token", {"</s>", "<|endoftext|>"});
  return out;
}

}  // namespace deeplora
