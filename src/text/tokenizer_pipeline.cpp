#include "text/tokenizer_pipeline.h"

#include <algorithm>

#include "text/decoder.h"
#include "text/language_codes.h"

namespace deeplora {
namespace {

using nlohmann::json;

const json& component(const json& root, const char* key) {
  static const json kNone;
  const auto found = root.find(key);
  return found == root.end() ? kNone : *found;
}

/// clean_up_tokenization of transformers, on the whole text.
void clean_whole_text(std::string& text) {
  for (const std::string_view from : {" .", " ?", " !", " ,"}) replace_all(text, from, from.substr(1));
  replace_all(text, " ' ", "'");
  for (const std::string_view from : {" n't", " 'm", " 's", " 've", " 're"}) replace_all(text, from, from.substr(1));
}

/// Bytes to code points; what lies outside the text stays as it is.
std::vector<TokenOffsets> in_characters(const std::vector<ByteSpan>& spans, std::string_view text) {
  std::vector<int64_t> characters(text.size());
  int64_t count = 0;
  for (size_t at = 0; at < text.size(); ++count)
    for (const size_t end = at + utf8_length(text[at]); at < end; ++at) characters[at] = count;
  std::vector<TokenOffsets> out;
  for (const ByteSpan& span : spans) {
    if (span.begin >= text.size()) {
      out.push_back({span.begin, span.end});
      continue;
    }
    const int64_t begin = characters[span.begin];
    const int64_t last = span.end > 0 && span.end <= text.size() ? characters[span.end - 1] : begin + 1;
    out.push_back({begin, span.end < text.size() ? characters[span.end] : last + 1});
  }
  return out;
}

class PipelineTokenizer final : public Tokenizer {
 public:
  PipelineTokenizer(const JsonFile& file, const TokenizerConfig& config, const Languages& languages) {
    const auto where = [&](const char* key) { return file.name + ": " + key; };
    check(!component(file.root, "model").is_null(), file.name,
          ": has no \"model\"; was it written by the tokenizers library?");
    normalizers_ = read_normalizers(component(file.root, "normalizer"), where("normalizer"));
    pre_tokenizers_ = read_pre_tokenizers(component(file.root, "pre_tokenizer"), where("pre_tokenizer"));
    if (json before = component(file.root, "pre_tokenizer"); before.is_object() && before["type"] == "ByteLevel") {
      before["add_prefix_space"] = true;
      of_words_ = read_pre_tokenizers(before, where("pre_tokenizer"));
    }
    model_ = read_token_model(file.root["model"], where("model"));
    decoders_ = read_decoders(component(file.root, "decoder"), where("decoder"));
    has_decoder_ = !component(file.root, "decoder").is_null();
    layout_ = read_template(component(file.root, "post_processor"), where("post_processor"));
    AddedVocabulary added(*model_);
    add_listed_tokens(file, added);
    add_configured_tokens(config, added);
    use_language_codes(file, config, languages, added, layout_, target_);
    layout_.cut_left = cuts_left(file, config);
    if (target_.layout) target_.layout->cut_left = layout_.cut_left;
    clean_text_ = config.value<bool>("clean_up_tokenization_spaces", false) && model_->kind() != "bpe";
    find_special_ids(config, added);
    size_ = model_->vocabulary().size();
    for (const AddedToken& token : added.tokens()) size_ = std::max(size_, token.id + 1);
    const AddedTokens::Normalize normalize = [this](AlignedText& text) {
      for (const auto& one : normalizers_) one->apply(text);
    };
    added_ = AddedTokens(added.tokens(), normalizers_.empty() ? AddedTokens::Normalize{} : normalize,
                         config.value<bool>("split_special_tokens", false));
    needs_spans_ = asks_for_spans();
    check_layout(layout_);
    if (target_.layout) check_layout(*target_.layout);
  }

  Encoding encode(std::string_view text, std::optional<std::string_view> pair, int64_t max_length,
                  bool with_offsets) const override {
    std::optional<TokenSequence> second;
    if (pair) second = sequence(*pair, 0, with_offsets);
    // Which of two texts is cut depends on the lengths of both; of one text that loses its end, no more than that is
    // needed.
    const int64_t enough = pair || layout_.cut_left ? 0 : max_length;
    return layout_.assemble(sequence(text, enough, with_offsets), std::move(second), max_length);
  }

  Encoding encode_target(std::string_view text) const override {
    check(target_.missing.empty(), target_.missing);
    return (target_.layout ? *target_.layout : layout_).assemble(sequence(text, 0, false), std::nullopt, 0);
  }

  std::vector<int64_t> tokenize(std::string_view text) const override { return sequence(text, 0, false).ids; }
  std::vector<int64_t> tokenize_word(std::string_view word) const override {
    return sequence(word, 0, false, of_words_.empty() ? pre_tokenizers_ : of_words_).ids;
  }
  Encoding surround(std::vector<int64_t> ids, size_t& begin) const override {
    begin = 0;
    while (begin < layout_.single.size() && layout_.single[begin].kind == LayoutPiece::Kind::special) ++begin;
    TokenSequence text;
    text.ids = std::move(ids);
    return layout_.assemble(std::move(text), std::nullopt, 0);
  }

  /// Ids without a piece are left out, as in Hugging Face: models have more rows than tokenizers have pieces.
  std::string decode(std::span<const int64_t> ids, bool skip_special) const override {
    std::vector<std::string> pieces;
    for (const int64_t id : ids) {
      const std::string* found = added_.shown(id);
      if (!found) found = model_->vocabulary().piece(id);
      if (found && !(skip_special && added_.is_special(*found))) pieces.push_back(*found);
    }
    for (const auto& decoder : decoders_) decoder->apply(pieces);
    std::string out;
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (i > 0 && !has_decoder_) out += ' ';
      out += pieces[i];
    }
    if (clean_text_) clean_whole_text(out);
    return out;
  }

  int64_t vocabulary_size() const override { return size_; }
  SpecialIds special() const override { return special_; }
  std::string kind() const override { return model_->kind(); }

  std::string piece(int64_t id) const override {
    if (const AddedToken* token = added_.find(id)) return token->content;
    const std::string* found = model_->vocabulary().piece(id);
    check(found != nullptr, "the tokenizer has no token with id ", id, "; its ids are 0 to ", size_ - 1);
    return *found;
  }

 private:
  static void add_listed_tokens(const JsonFile& file, AddedVocabulary& added) {
    const json& listed = component(file.root, "added_tokens");
    if (listed.is_null()) return;
    check(listed.is_array(), file.name, ": added_tokens: expected a list, found ", shown(listed));
    std::vector<AddedToken> tokens;
    for (const json& one : listed) {
      tokens.push_back(read_added_token(one, cat(file.name, ": added_tokens")));
      check(tokens.back().id >= 0 && tokens.back().id < (int64_t{1} << 22) && !tokens.back().content.empty(), file.name,
            ": added_tokens: ", shown(one), " has the id ", tokens.back().id,
            " or lacks a content; expected ids of 0 to 4194303");
    }
    added.add(std::move(tokens));
  }

  static bool cuts_left(const JsonFile& file, const TokenizerConfig& config) {
    const json& truncation = component(file.root, "truncation");
    const bool file_says = truncation.is_object() && json_value<std::string>(truncation, "direction", "Right",
                                                                             file.name + ": truncation") == "Left";
    const auto side = config.value<std::string>("truncation_side", file_says ? "left" : "right");
    check(side == "left" || side == "right", config.name, ": truncation_side is '", side, "'; expected left or right");
    return side == "left";
  }

  void find_special_ids(const TokenizerConfig& config, const AddedVocabulary& added) {
    const auto find = [&](const char* key, std::initializer_list<const char*> usual) -> int64_t {
      const std::string named = config.token(key, "");
      if (!named.empty()) return added.find(named).value_or(-1);
      if (!config.root.contains(key))
        for (const char* name : usual)
          if (const auto id = added.find(name)) return *id;
      return -1;
    };
    special_.pad = find("pad_token", {"[PAD]", "<pad>"});
    special_.unk = find("unk_token", {"[UNK]", "<unk>"});
    special_.cls = find("cls_token", {"[CLS]"});
    special_.sep = find("sep_token", {"[SEP]"});
    special_.mask = find("mask_token", {"[MASK]", "<mask>"});
    special_.bos = find("bos_token", {"<s>", "<|startoftext|>"});
    special_.eos = find("eos_token", {"</s>", "<|endoftext|>"});
  }

  void check_layout(const SequenceTemplate& layout) const {
    for (const auto* places : {&layout.single, &layout.pair})
      for (const LayoutPiece& place : *places)
        check(place.kind != LayoutPiece::Kind::special || added_.find(place.id) || model_->vocabulary().piece(place.id),
              "the layout of texts uses token ", place.id, ", which the tokenizer does not have; its ids are 0 to ",
              size_ - 1);
  }

  /// Some pre-tokenizer asks where a piece began in the original, which only spans tell once the text has been
  /// rewritten.
  bool asks_for_spans() const {
    bool rewritten = !normalizers_.empty();
    for (const auto& one : pre_tokenizers_) {
      if (one->asks_for_origin() && rewritten) return true;
      rewritten = rewritten || one->rewrites();
    }
    return false;
  }

  /// Tokens of a text, the first `enough` of them at least (0: all).
  TokenSequence sequence(std::string_view text, int64_t enough, bool with_offsets) const {
    return sequence(text, enough, with_offsets, pre_tokenizers_);
  }
  TokenSequence sequence(std::string_view text, int64_t enough, bool with_offsets,
                         const std::vector<std::unique_ptr<PreTokenizer>>& pre_tokenizers) const {
    check_utf8(text);
    Pieces pieces = added_.split(text, with_offsets || needs_spans_);
    for (const auto& one : pre_tokenizers) one->apply(pieces);
    if (with_offsets) return sequence_with_offsets(text, pieces);
    TokenSequence out;
    for (size_t i = 0; i < pieces.list.size(); ++i) {
      // One more than enough shows that something is cut.
      if (enough > 0 && static_cast<int64_t>(out.ids.size()) > enough) break;
      if (pieces.list[i].id >= 0) out.ids.push_back(pieces.list[i].id);
      else model_->append_ids(view(pieces, pieces.list[i]), out.ids);
    }
    return out;
  }

  static std::string_view view(const Pieces& pieces, const Piece& piece) {
    return std::string_view(pieces.text.text).substr(piece.begin, piece.end - piece.begin);
  }

  TokenSequence sequence_with_offsets(std::string_view text, const Pieces& pieces) const {
    TokenSequence out;
    out.with_offsets = true;
    std::vector<ByteSpan> spans;
    std::vector<ModelToken> tokens;
    for (const Piece& piece : pieces.list) {
      tokens.clear();
      if (piece.id >= 0) tokens.push_back({piece.id, 0, piece.end - piece.begin});
      else model_->tokenize(view(pieces, piece), tokens);
      for (const ModelToken& token : tokens) {
        const std::string_view whole = view(pieces, piece);
        const std::string_view own = whole.substr(std::min<size_t>(token.begin, whole.size()), token.end - token.begin);
        out.ids.push_back(token.id);
        // Byte pieces of a prefix or suffix stand for more than there is.
        spans.push_back(token.end <= whole.size()
                            ? pieces.text.original(piece.begin + token.begin, piece.begin + token.end)
                            : ByteSpan{token.begin, token.end});
        const std::string* name =
            piece.id >= 0 || model_->shows_own_text(token.id) ? nullptr : model_->vocabulary().piece(token.id);
        out.texts.push_back(name ? *name : std::string(own));
      }
    }
    out.offsets = in_characters(spans, text);
    return out;
  }

  std::vector<std::unique_ptr<Normalizer>> normalizers_;
  std::vector<std::unique_ptr<PreTokenizer>> pre_tokenizers_;
  std::vector<std::unique_ptr<PreTokenizer>> of_words_;  ///< of single words, where that is another; else empty
  std::unique_ptr<TokenModel> model_;
  std::vector<std::unique_ptr<Decoder>> decoders_;
  AddedTokens added_;
  SequenceTemplate layout_;
  TargetLayout target_;
  SpecialIds special_;
  int64_t size_ = 0;
  bool has_decoder_ = false, clean_text_ = false, needs_spans_ = false;
};

}  // namespace

std::unique_ptr<Tokenizer> make_pipeline(const JsonFile& tokenizer, const TokenizerConfig& config,
                                         const Languages& languages) {
  return std::make_unique<PipelineTokenizer>(tokenizer, config, languages);
}

}  // namespace deeplora
