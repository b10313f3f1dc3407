#include "text/token_model.h"

#include <array>
#include <cstdio>

#include "text/unicode.h"

namespace deeplora {
namespace {

using nlohmann::json;

/// Each piece is cut into the longest pieces of the vocabulary, from its beginning. Source: BERT's tokenization.py.
class WordPieceModel final : public TokenModel {
 public:
  explicit WordPieceModel(const Component& model) {
    model.known({"unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"});
    unknown_ = model.value<std::string>("unk_token", "[UNK]");
    prefix_ = model.value<std::string>("continuing_subword_prefix", "##");
    longest_word_ = model.value<int64_t>("max_input_chars_per_word", 100);
    check(longest_word_ >= 0 && longest_word_ <= 10000, model.place(), ".max_input_chars_per_word is ", longest_word_,
          "; expected 0 to 10000");
    read_vocabulary(model, vocabulary_);
    unknown_id_ = vocabulary_.find(unknown_).value_or(-1);
  }
  std::string kind() const override { return "wordpiece"; }

  void tokenize(std::string_view word, std::vector<ModelToken>& out) const override {
    cut(
        word, out.size(), [&](size_t before) { out.resize(before); },
        [&](int64_t id, size_t begin, size_t end) {
          out.push_back({id, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
        });
  }
  void append_ids(std::string_view word, std::vector<int64_t>& out) const override {
    cut(
        word, out.size(), [&](size_t before) { out.resize(before); },
        [&](int64_t id, size_t, size_t) { out.push_back(id); });
  }

 private:
  template <class Reset, class Add>
  void cut(std::string_view word, size_t before, Reset reset, Add add) const {
    const auto unknown = [&] {
      reset(before);
      add(unknown_id_ >= 0 ? unknown_id_ : need(unknown_), 0, word.size());
    };
    if (static_cast<int64_t>(word.size()) > longest_word_ && static_cast<int64_t>(utf8_count(word)) > longest_word_)
      return unknown();
    std::string buffer;
    for (size_t begin = 0; begin < word.size();) {
      // What is looked for: the rest of the word, behind the prefix but at the beginning.
      std::string_view rest = word;
      size_t extra = 0;
      if (begin > 0) {
        extra = prefix_.size();
        buffer.assign(prefix_).append(word, begin);
        rest = buffer;
      }
      size_t length = std::min(rest.size(), vocabulary_.longest());
      while (length > extra && length < rest.size() && (static_cast<unsigned char>(rest[length]) & 0xC0) == 0x80)
        --length;
      std::optional<int64_t> id;
      for (; length > extra; length = utf8_before(rest, length))
        if ((id = vocabulary_.find(rest.substr(0, length)))) break;
      if (!id) return unknown();
      add(*id, begin, begin + length - extra);
      begin += length - extra;
    }
  }

  std::string unknown_, prefix_;
  int64_t longest_word_ = 100, unknown_id_ = -1;
};

class WordLevelModel final : public TokenModel {
 public:
  explicit WordLevelModel(const Component& model) {
    model.known({"unk_token", "vocab"});
    unknown_ = model.value<std::string>("unk_token", "<unk>");
    read_vocabulary(model, vocabulary_);
  }
  std::string kind() const override { return "wordlevel"; }
  void tokenize(std::string_view word, std::vector<ModelToken>& out) const override {
    const auto id = vocabulary_.find(word);
    out.push_back({id ? *id : need(unknown_), 0, static_cast<uint32_t>(word.size())});
  }

 private:
  std::string unknown_;
};

}  // namespace

void TokenModel::append_ids(std::string_view piece, std::vector<int64_t>& out) const {
  thread_local std::vector<ModelToken> tokens;
  tokens.clear();
  tokenize(piece, tokens);
  for (const ModelToken& token : tokens) out.push_back(token.id);
}

int64_t TokenModel::need(const std::string& name) const {
  const auto id = vocabulary_.find(name);
  check(id.has_value(), "the text holds something unknown, and the vocabulary has no '", name,
        "', the token of what is unknown");
  return *id;
}

void read_vocabulary(const Component& model, Vocabulary& out) {
  const json& vocabulary = json_member(model.json(), "vocab", model.place());
  check(vocabulary.is_object() && !vocabulary.empty(), model.place(),
        ".vocab is empty or no object; expected {\"piece\": id, ...}");
  for (const auto& [piece, id] : vocabulary.items()) {
    check(id.is_number_integer(), model.place(), ".vocab: the id of '", piece, "' is ", shown(id),
          "; expected a whole number");
    out.set(piece, id.get<int64_t>());
  }
}

std::string byte_piece(unsigned char byte) {
  std::array<char, 8> text{};
  std::snprintf(text.data(), text.size(), "<0x%02X>", static_cast<unsigned>(byte));
  return text.data();
}

std::unique_ptr<TokenModel> read_token_model(const json& value, const std::string& where) {
  check(value.is_object(), where, ": expected an object, found ", shown(value));
  json typed;
  if (!value.contains("type")) {
    typed = value;
    typed["type"] = value.contains("merges")                               ? "BPE"
                    : value.contains("max_input_chars_per_word")           ? "WordPiece"
                    : value.contains("vocab") && value["vocab"].is_array() ? "Unigram"
                                                                           : "WordLevel";
  }
  const Component model(typed.is_null() ? value : typed, where);
  if (model.type() == "WordPiece") return std::make_unique<WordPieceModel>(model);
  if (model.type() == "WordLevel") return std::make_unique<WordLevelModel>(model);
  if (model.type() == "BPE") return read_bpe(model);
  if (model.type() == "Unigram") return read_unigram(model);
  model.refuse({"BPE", "Unigram", "WordLevel", "WordPiece"});
}

}  // namespace deeplora
