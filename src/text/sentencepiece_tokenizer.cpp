#include "text/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "core/files.h"
#include "text/piece_tokenizer.h"
#include "text/sentencepiece_check.h"
#include "text/unicode.h"

namespace deeplora {
namespace {

using nlohmann::json;
using sentencepiece::SentencePieceProcessor;
using Kind = LayoutPiece::Kind;

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581, which stands for a space

std::shared_ptr<const SentencePieceProcessor> load(const std::string& file, const std::string& model) {
  check_sentencepiece_model(file, model);
  auto out = std::make_shared<SentencePieceProcessor>();
  std::string reason;
  try {
    const auto status = out->LoadFromSerializedProto(model);
    if (!status.ok()) reason = status.ToString();
  } catch (const std::exception& e) {  // of its trie
    reason = e.what();
  }
  check(reason.empty(), file, ": not a sentencepiece model: ", reason);
  return out;
}

/// The same model without the dummy prefix: in a serialised message a later field overrides an earlier one,
/// here normalizer_spec (3) { add_dummy_prefix (3): false }.
std::shared_ptr<const SentencePieceProcessor> load_without_prefix(const std::string& file,
                                                                  const std::string& model) {
  return load(file, model + std::string("\x1A\x02\x18\x00", 4));
}

std::vector<int> ids_of(const SentencePieceProcessor& processor, const std::string& text) {
  std::vector<int> ids;
  const auto status = processor.Encode(text, &ids);
  check(status.ok(), "sentencepiece: ", status.ToString());
  return ids;
}

/// The value of a byte piece "<0x0A>".
std::optional<char> byte_of(const std::string& piece) {
  unsigned value = 0;
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') return std::nullopt;
  const auto [rest, failed] = std::from_chars(piece.data() + 3, piece.data() + 5, value, 16);
  if (failed != std::errc() || rest != piece.data() + 5) return std::nullopt;
  return static_cast<char>(value);
}

class SentencePieceTokenizer final : public PieceTokenizer {
 public:
  /// `later` encodes what follows an added token, `spaced` what begins with a space.
  SentencePieceTokenizer(TokenizerParts parts, std::shared_ptr<const SentencePieceProcessor> first,
                         std::shared_ptr<const SentencePieceProcessor> later, std::shared_ptr<const SentencePieceProcessor> spaced)
      : PieceTokenizer(std::move(parts)), first_(std::move(first)), later_(std::move(later)), spaced_(std::move(spaced)) {
    const std::vector<int> ids = ids_of(*first_, "a");
    has_prefix_ = !ids.empty() && first_->IdToPiece(ids[0]).starts_with(kSpace);
  }
  std::string kind() const override { return "sentencepiece"; }

 protected:
  void append_ids(std::u32string_view text, bool at_start, std::vector<int64_t>& ids) const override {
    const bool spaced = !text.empty() && (text.front() == U' ' || text.front() == U'\u2581');
    const auto& processor = spaced && spaced_ ? spaced_ : at_start ? first_ : later_;
    const std::vector<int> found = ids_of(*processor, to_utf8(text));
    ids.insert(ids.end(), found.begin(), found.end());
  }

  std::string join_pieces(const std::vector<int64_t>& ids) const override {
    std::string out, bytes;
    const auto flush = [&] {
      // Byte pieces that make no character become one replacement character each.
      if (is_valid_utf8(bytes))
        out += bytes;
      else
        for (size_t i = 0; i < bytes.size(); ++i) append_utf8(out, 0xFFFD);
      bytes.clear();
    };
    for (const int64_t id : ids) {
      std::string piece = *parts().vocabulary.piece(id);
      const bool is_byte = id < first_->GetPieceSize() && first_->IsByte(static_cast<int>(id));
      if (const auto byte = is_byte ? byte_of(piece) : std::nullopt) {
        bytes += *byte;
        continue;
      }
      flush();
      replace_all(piece, kSpace, " ");
      out += piece;
    }
    flush();
    if (has_prefix_ && out.starts_with(' ')) out.erase(0, 1);
    return out;
  }

 private:
  std::shared_ptr<const SentencePieceProcessor> first_, later_, spaced_;
  bool has_prefix_ = false;
};

enum class Style { t5, llama };

/// tokenizer_class without "Fast"; "" for the generic classes, which say nothing.
std::string tokenizer_class(const TokenizerConfig& config) {
  auto name = config.value<std::string>("tokenizer_class", "");
  if (name.ends_with("Fast")) name.erase(name.size() - 4);
  return name == "PreTrainedTokenizer" || name == "TokenizersBackend" ? "" : name;
}

Style choose_style(const std::string& file, const SentencePieceProcessor& processor,
                   const TokenizerConfig& config, bool has_layout) {
  const std::string name = tokenizer_class(config);
  for (const char* known : {"T5Tokenizer", "MT5Tokenizer"})
    if (name == known) return Style::t5;
  for (const char* known : {"LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer"})
    if (name == known) return Style::llama;
  check(name.empty() || has_layout, file, ": tokenizer_class '", name, "' in ", config.name,
        " puts its special tokens otherwise than T5 and Llama; add its tokenizer.json, which tells how");
  return processor.pad_id() == 0 && processor.eos_id() == 1 ? Style::t5 : Style::llama;
}

/// tokenizer.json may be a conversion that numbers pieces otherwise (XLM-R) or cleans the text before
/// (ALBERT).
void check_agreement(const std::string& file, const SentencePieceProcessor& processor,
                     const JsonFile& tokenizer) {
  const json& vocabulary = tokenizer.root.at("model").value("vocab", json());
  for (int id = 0; id < processor.GetPieceSize(); ++id) {
    const std::string& piece = processor.IdToPiece(id);
    bool same = false;
    if (vocabulary.is_array())
      same = static_cast<size_t>(id) < vocabulary.size() && vocabulary[id].is_array() &&
             vocabulary[id][0] == piece;
    else if (vocabulary.is_object())
      same = vocabulary.contains(piece) && vocabulary[piece] == id;
    check(same, tokenizer.name, ": its piece ", id, " is not '", piece, "' as in ", file,
          "; tokenizers that number the pieces anew (XLM-R and its like) are not supported");
  }
  const auto check_one = [&](const json& one) {
    const auto type = json_value<std::string>(one, "type", "", tokenizer.name);
    const bool own = type == "Precompiled" || type == "Prepend" || type == "Replace" || type == "Strip";
    check(own, tokenizer.name, ": normalizer '", type, "' is not supported together with ", file);
  };
  const json normalizer = tokenizer.root.value("normalizer", json());
  if (normalizer.is_null()) return;
  if (normalizer.contains("normalizers"))
    for (const json& one : normalizer["normalizers"]) check_one(one);
  else
    check_one(normalizer);
}

AddedToken special_token(int64_t id, std::string content) {
  return {id, std::move(content), true, false, false, false, false};
}

/// Control pieces, the unknown piece, and what the configuration and T5's extra ids add behind the
/// vocabulary.
std::vector<AddedToken> tokens_without_json(const SentencePieceProcessor& processor,
                                            const TokenizerConfig& config, Style style) {
  std::vector<AddedToken> out;
  for (int id = 0; id < processor.GetPieceSize(); ++id)
    if (processor.IsControl(id) || processor.IsUnknown(id))
      out.push_back(special_token(id, processor.IdToPiece(id)));
  const auto listed = config.root.find("added_tokens_decoder");
  if (listed != config.root.end() && listed->is_object() && !listed->empty()) {
    json as_list = json::array();
    for (const auto& [id, token] : listed->items()) {
      as_list.push_back(token);
      as_list.back()["id"] = std::strtoll(id.c_str(), nullptr, 10);
    }
    Vocabulary unused;
    std::vector<AddedToken> more = read_added_tokens({config.name, {{"added_tokens", as_list}}}, unused);
    for (auto& token : more) {
      std::erase_if(out, [&](const AddedToken& known) { return known.id == token.id; });
      out.push_back(std::move(token));
    }
    return out;
  }
  const int64_t extra = style == Style::t5 ? config.value<int64_t>("extra_ids", 100) : 0;
  check(extra >= 0 && extra <= 100000, config.name, ": extra_ids is ", extra, "; expected 0 to 100000");
  for (int64_t i = 0; i < extra; ++i)
    out.push_back(special_token(processor.GetPieceSize() + extra - 1 - i, cat("<extra_id_", i, ">")));
  return out;
}

SequenceTemplate make_layout(const std::string& file, const SpecialIds& special,
                             const TokenizerConfig& config, Style style) {
  const bool bos = config.value<bool>("add_bos_token", style == Style::llama);
  const bool eos = config.value<bool>("add_eos_token", style == Style::t5);
  check(!bos || special.bos >= 0, file, ": has no beginning-of-sequence token, which ", config.name,
        " asks for; set add_bos_token: false there");
  check(!eos || special.eos >= 0, file, ": has no end-of-sequence token, which ", config.name,
        " asks for; set add_eos_token: false there");
  SequenceTemplate out;
  out.single.clear();
  out.pair.clear();
  const auto add = [&](std::vector<LayoutPiece>& layout, Kind text, int64_t type_id) {
    if (bos) layout.push_back({Kind::special, special.bos, type_id});
    layout.push_back({text, -1, type_id});
    if (eos) layout.push_back({Kind::special, special.eos, type_id});
  };
  add(out.single, Kind::first, 0);
  add(out.pair, Kind::first, 0);
  add(out.pair, Kind::second, style == Style::t5 ? 0 : 1);
  return out;
}

SpecialIds special_ids(const SentencePieceProcessor& processor, const TokenizerConfig& config,
                       const Vocabulary& vocabulary) {
  SpecialIds out = find_special_ids(config, vocabulary);
  const auto complete = [&](int64_t& id, const char* key, int own) {
    if (id < 0 && !config.root.contains(key)) id = own;
  };
  complete(out.pad, "pad_token", processor.pad_id());
  complete(out.unk, "unk_token", processor.unk_id());
  complete(out.bos, "bos_token", processor.bos_id());
  complete(out.eos, "eos_token", processor.eos_id());
  return out;
}

/// True when only the start of the text takes the dummy prefix.
bool prefix_at_start_only(const std::optional<JsonFile>& tokenizer, const TokenizerConfig& config,
                          Style style) {
  if (tokenizer) {
    const json splitter = tokenizer->root.value("pre_tokenizer", json());
    if (splitter.is_object() && splitter.contains("prepend_scheme"))
      return splitter["prepend_scheme"] == "first";
  }
  return style == Style::llama && !config.value<bool>("legacy", true);
}

/// True when a text that begins with a space takes no second one: the tokenizers library's Metaspace, unlike sentencepiece.
bool prefix_unless_spaced(const std::optional<JsonFile>& tokenizer) {
  return tokenizer && component_type(tokenizer->root, "pre_tokenizer") == "Metaspace" && component_type(tokenizer->root, "normalizer").empty();
}

}  // namespace

std::vector<std::string> sentencepiece_file_names() {
  return {"spiece.model",  "tokenizer.model", "sentencepiece.model", "spm.model", "spiece.spm",
          "tokenizer.spm", "model.spm"};
}

std::unique_ptr<Tokenizer> make_sentencepiece(const std::string& file, const std::string& model,
                                              const std::optional<JsonFile>& tokenizer,
                                              const TokenizerConfig& config) {
  const auto processor = load(file, model);
  const bool has_layout = tokenizer && !component_type(tokenizer->root, "post_processor").empty();
  const Style style = choose_style(file, *processor, config, has_layout);
  TokenizerParts parts;
  for (int id = 0; id < processor->GetPieceSize(); ++id) parts.vocabulary.set(processor->IdToPiece(id), id);
  std::vector<AddedToken> added;
  if (tokenizer) {
    check_agreement(file, *processor, *tokenizer);
    added = read_added_tokens(*tokenizer, parts.vocabulary);
  } else {
    added = tokens_without_json(*processor, config, style);
    for (const auto& token : added) parts.vocabulary.set(token.content, token.id);
  }
  parts.added = AddedTokens(std::move(added), nullptr);
  parts.special = special_ids(*processor, config, parts.vocabulary);
  parts.layout = has_layout ? read_template(*tokenizer) : make_layout(file, parts.special, config, style);
  parts.layout.cut_left = config.cut_left();
  const auto bare = load_without_prefix(file, model);
  const auto later = prefix_at_start_only(tokenizer, config, style) ? bare : processor;
  return std::make_unique<SentencePieceTokenizer>(std::move(parts), processor, later, prefix_unless_spaced(tokenizer) ? bare : nullptr);
}

}  // namespace deeplora
