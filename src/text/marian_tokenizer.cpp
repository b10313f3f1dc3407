#include "text/marian_tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>

#include "text/sentencepiece_check.h"
#include "text/unicode.h"

namespace deeplora {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581, which stands for a space

/// The sentencepiece library itself, whose pieces these are.
class SentencePieceModel {
 public:
  SentencePieceModel(const std::string& file, const std::string& bytes) {
    check_sentencepiece_model(file, bytes);
    const auto status = processor_.LoadFromSerializedProto(bytes);
    check(status.ok(), file, ": the sentencepiece library refuses it: ", status.ToString());
  }

  std::vector<std::string> pieces(std::string_view text) const {
    std::vector<std::string> out;
    const auto status = processor_.Encode(std::string(text), &out);
    check(status.ok(), "sentencepiece: ", status.ToString());
    return out;
  }

  std::string join(const std::vector<std::string>& pieces) const {
    std::string out;
    const auto status = processor_.Decode(pieces, &out);
    check(status.ok(), "sentencepiece: ", status.ToString());
    return out;
  }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

Vocabulary read_ids(const TokenizerFiles& files, const char* name) {
  const auto file = read_json(files, name);
  check(file.has_value(), name, ": missing; MarianTokenizer numbers its pieces by it");
  Vocabulary out;
  for (const auto& [piece, id] : file->root.items()) {
    check(id.is_number_integer(), name, ": the id of '", piece, "' is ", shown(id), "; expected a whole number");
    out.set(piece, id.get<int64_t>());
  }
  return out;
}

std::unique_ptr<SentencePieceModel> read_model(const TokenizerFiles& files, const char* name) {
  const auto bytes = files(name);
  check(bytes.has_value(), name, ": missing; MarianTokenizer needs source.spm and target.spm");
  return std::make_unique<SentencePieceModel>(name, *bytes);
}

class MarianTokenizer final : public Tokenizer {
 public:
  MarianTokenizer(const TokenizerFiles& files, const TokenizerConfig& config)
      : source_(read_model(files, "source.spm")),
        target_(read_model(files, "target.spm")),
        ids_(read_ids(files, "vocab.json")) {
    separate_ = config.value<bool>("separate_vocabs", false);
    if (separate_) target_ids_ = read_ids(files, "target_vocab.json");
    unknown_ = config.token("unk_token", "<unk>");
    for (const Vocabulary* one : {&ids_, separate_ ? &target_ids_ : &ids_})
      check(one->find(unknown_).has_value(), "vocab.json has no '", unknown_, "', the piece of what is unknown");
    find_tokens(config);
    cut_left_ = config.value<std::string>("truncation_side", "right") == "left";
    clean_text_ = config.value<bool>("clean_up_tokenization_spaces", false);
    check(!clean_text_, config.name, ": clean_up_tokenization_spaces is not supported for MarianTokenizer");
  }

  Encoding encode(std::string_view text, std::optional<std::string_view> pair, int64_t max_length,
                  bool with_offsets) const override {
    check(!pair, "MarianTokenizer takes no pairs of texts");
    check(!with_offsets, "MarianTokenizer gives no offsets of tokens");
    return finish(pieces_ids(text, *source_, ids_), max_length);
  }
  Encoding encode_target(std::string_view text) const override {
    return finish(pieces_ids(text, *target_, separate_ ? target_ids_ : ids_), 0);
  }
  std::vector<int64_t> tokenize(std::string_view text) const override { return pieces_ids(text, *source_, ids_); }

  std::string decode(std::span<const int64_t> ids, bool skip_special) const override {
    const SentencePieceModel& model = separate_ ? *target_ : *source_;
    std::string out;
    std::vector<std::string> waiting;
    for (const int64_t id : ids) {
      const std::string* piece = (separate_ ? target_ids_ : ids_).piece(id);
      if (!piece) continue;
      if (std::find(special_texts_.begin(), special_texts_.end(), *piece) == special_texts_.end()) {
        waiting.push_back(*piece);
        continue;
      }
      if (skip_special) continue;
      out += model.join(waiting) + *piece + " ";
      waiting.clear();
    }
    out += model.join(waiting);
    replace_all(out, kSpace, " ");
    while (!out.empty() && is_space(utf8_at(out, 0))) out.erase(0, utf8_length(out[0]));
    while (!out.empty() && is_space(utf8_at(out, utf8_before(out, out.size()))))
      out.resize(utf8_before(out, out.size()));
    return out;
  }

  int64_t vocabulary_size() const override { return std::max(ids_.size(), target_ids_.size()); }
  SpecialIds special() const override { return special_; }
  std::string kind() const override { return "marian"; }
  std::string piece(int64_t id) const override {
    const std::string* found = ids_.piece(id);
    check(found != nullptr, "the tokenizer has no token with id ", id, "; its ids are 0 to ", ids_.size() - 1);
    return *found;
  }

 private:
  void find_tokens(const TokenizerConfig& config) {
    for (const auto& [key, usual, id] : {std::tuple{"eos_token", "</s>", &special_.eos},
                                         {"unk_token", "<unk>", &special_.unk},
                                         {"pad_token", "<pad>", &special_.pad}}) {
      const std::string text = config.token(key, usual);
      if (text.empty()) continue;
      const auto found = ids_.find(text);
      check(found.has_value(), "vocab.json has no '", text, "' (", key, ")");
      *id = *found;
      special_texts_.push_back(text);
    }
    check(special_.eos >= 0, config.name, ": eos_token is null, but it ends every text");
    for (const char* key : {"added_tokens_decoder", "extra_special_tokens", "additional_special_tokens"})
      if (config.has(key))
        for (const auto& one : config.root[key]) {
          const std::string text =
              one.is_string() ? one.get<std::string>() : json_value<std::string>(one, "content", "", config.name);
          check(std::find(special_texts_.begin(), special_texts_.end(), text) != special_texts_.end(), config.name,
                ": ", key, " holds '", text,
                "'; MarianTokenizer is supported with eos_token, unk_token and pad_token alone");
        }
  }

  std::vector<int64_t> pieces_ids(std::string_view text, const SentencePieceModel& model, const Vocabulary& ids) const {
    check_utf8(text);
    std::vector<int64_t> out;
    const auto id_of = [&](std::string_view piece) { return ids.find(piece).value_or(*ids.find(unknown_)); };
    const auto append = [&](std::string_view part) {
      // A language code in front is a piece of its own.
      if (const size_t end = part.starts_with(">>") ? part.find("<<") : std::string_view::npos;
          end != std::string_view::npos) {
        out.push_back(id_of(part.substr(0, end + 2)));
        part.remove_prefix(end + 2);
      }
      for (const std::string& piece : model.pieces(part)) out.push_back(id_of(piece));
    };
    size_t done = 0;
    for (size_t at = 0; at < text.size();) {
      std::string_view found;
      for (const std::string& token : special_texts_)
        if (token.size() > found.size() && text.substr(at).starts_with(token)) found = token;
      if (found.empty()) {
        ++at;
        continue;
      }
      if (done < at) append(text.substr(done, at - done));
      out.push_back(id_of(found));
      done = at += found.size();
    }
    if (done < text.size()) append(text.substr(done));
    return out;
  }

  Encoding finish(std::vector<int64_t> ids, int64_t max_length) const {
    check(max_length >= 0, "a maximum length of ", max_length, " tokens; expected 0 (no limit) or at least 1");
    Encoding out;
    const auto room = static_cast<size_t>(std::max<int64_t>(max_length - 1, 0));
    if (max_length > 0 && ids.size() > room) {
      out.truncated = true;
      if (cut_left_) ids.erase(ids.begin(), ids.end() - static_cast<std::ptrdiff_t>(room));
      else ids.resize(room);
    }
    ids.push_back(special_.eos);
    out.type_ids.assign(ids.size(), 0);
    out.ids = std::move(ids);
    return out;
  }

  std::unique_ptr<SentencePieceModel> source_, target_;
  Vocabulary ids_, target_ids_;
  std::string unknown_;
  std::vector<std::string> special_texts_;
  SpecialIds special_;
  bool separate_ = false, cut_left_ = false, clean_text_ = false;
};

}  // namespace

std::unique_ptr<Tokenizer> make_marian(const TokenizerFiles& files, const TokenizerConfig& config) {
  return std::make_unique<MarianTokenizer>(files, config);
}

}  // namespace deeplora
