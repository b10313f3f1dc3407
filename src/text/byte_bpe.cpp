#include "text/byte_bpe.h"

#include <array>
#include <unordered_map>

#include "core/error.h"
#include "core/files.h"
#include "text/bpe_merges.h"
#include "text/byte_splitter.h"
#include "text/normalizer.h"
#include "text/piece_tokenizer.h"
#include "text/unicode.h"

namespace deeplora {
namespace {

using nlohmann::json;

/// GPT-2's visible stand-in for every byte: printable Latin-1 characters stand for themselves, the others, in
/// order, are U+0100 and following. Source: bytes_to_unicode in GPT-2's encoder.py.
std::array<char32_t, 256> byte_characters() {
  std::array<char32_t, 256> out{};
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool visible = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    out[byte] = visible ? byte : next++;
  }
  return out;
}

/// Bytes of a broken character at the front that belong together: those that could still begin a valid one.
size_t broken_length(std::string_view bytes) {
  const auto at = [&](size_t i) -> unsigned {
    return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0u;
  };
  const unsigned lead = at(0);
  const size_t whole = lead >= 0xC2 && lead <= 0xDF   ? 2
                       : (lead & 0xF0) == 0xE0        ? 3
                       : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                      : 1;
  // The second byte is limited further where it would make an overlong form, a surrogate or a code beyond
  // U+10FFFF.
  const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  size_t length = 1;
  while (length < whole && at(length) >= (length == 1 ? low : 0x80u) &&
         at(length) <= (length == 1 ? high : 0xBFu))
    ++length;
  return length;
}

/// UTF-8 with U+FFFD for every maximal part of a character that is broken off, as Rust and Python decode.
std::string replace_broken(const std::string& bytes) {
  if (is_valid_utf8(bytes)) return bytes;
  std::string out;
  for (size_t i = 0; i < bytes.size();) {
    size_t good = 0;
    for (size_t length = 1; length <= 4 && i + length <= bytes.size() && !good; ++length)
      if (is_valid_utf8(std::string_view(bytes).substr(i, length))) good = length;
    if (good) {
      out.append(bytes, i, good);
      i += good;
      continue;
    }
    append_utf8(out, 0xFFFD);
    i += broken_length(std::string_view(bytes).substr(i));
  }
  return out;
}

struct ByteBpeModel {
  BpeMerges merges;
  ByteSplitter splitter;
  std::optional<int64_t> unknown;
  bool fuse_unknown = false;
  bool whole_words_first = false;  ///< a word that is a piece as it stands is not merged up
};

class ByteBpeTokenizer final : public PieceTokenizer {
 public:
  ByteBpeTokenizer(TokenizerParts parts, ByteBpeModel model)
      : PieceTokenizer(std::move(parts)), model_(std::move(model)), characters_(byte_characters()) {
    for (size_t byte = 0; byte < 256; ++byte) {
      std::string piece;
      append_utf8(piece, characters_[byte]);
      byte_ids_[byte] = this->parts().vocabulary.find(piece).value_or(-1);
      bytes_[characters_[byte]] = static_cast<char>(byte);
    }
  }
  std::string kind() const override { return "byte-bpe"; }

 protected:
  void append_ids(std::u32string_view text, bool at_start, std::vector<int64_t>& ids) const override {
    for (const std::u32string& word : model_.splitter.split(text)) append_word(to_utf8(word), ids);
  }

  std::string join_pieces(const std::vector<int64_t>& ids) const override {
    std::string bytes;
    for (const int64_t id : ids) {
      const std::string& piece = *parts().vocabulary.piece(id);
      std::string own;
      bool all = true;
      for (const char32_t code : to_code_points(piece, "a piece of the vocabulary")) {
        const auto found = bytes_.find(code);
        all = all && found != bytes_.end();
        if (all) own += found->second;
      }
      bytes += all ? own : piece;  // an added token with a character that stands for no byte is itself
    }
    return replace_broken(bytes);
  }

 private:
  void append_word(const std::string& word, std::vector<int64_t>& ids) const {
    if (model_.whole_words_first) {
      std::string piece;
      for (const char byte : word) append_utf8(piece, characters_[static_cast<unsigned char>(byte)]);
      if (const auto id = parts().vocabulary.find(piece)) {
        ids.push_back(*id);
        return;
      }
    }
    std::vector<int64_t> symbols;
    bool after_unknown = false;
    for (const char byte : word) {
      const int64_t id = byte_ids_[static_cast<unsigned char>(byte)];
      const bool is_unknown = id < 0;
      check(!is_unknown || model_.unknown, "the tokenizer has no token for the byte ",
            static_cast<int>(static_cast<unsigned char>(byte)), " and no unknown token");
      if (!(is_unknown && after_unknown && model_.fuse_unknown))
        symbols.push_back(is_unknown ? *model_.unknown : id);
      after_unknown = is_unknown;
    }
    model_.merges.apply(symbols);
    ids.insert(ids.end(), symbols.begin(), symbols.end());
  }

  ByteBpeModel model_;
  std::array<char32_t, 256> characters_;
  std::array<int64_t, 256> byte_ids_{};
  std::unordered_map<char32_t, char> bytes_;
};

/// "a b" of older files, ["a", "b"] of newer ones.
std::pair<std::string, std::string> read_merge(const json& merge, const std::string& file) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  const std::string text = merge.is_string() ? merge.get<std::string>() : "";
  const size_t space = text.find(' ');
  check(space != std::string::npos, file, ": model.merges holds ", merge.dump(),
        R"(; expected "a b" or ["a", "b"])");
  return {text.substr(0, space), text.substr(space + 1)};
}

BpeMerges read_merges(const JsonFile& tokenizer, const Vocabulary& vocabulary) {
  BpeMerges out;
  const json& model = tokenizer.root["model"];
  check(model.contains("merges") && model["merges"].is_array(), tokenizer.name, ": model.merges is missing");
  for (const json& merge : model["merges"]) {
    const auto [left, right] = read_merge(merge, tokenizer.name);
    const auto a = vocabulary.find(left), b = vocabulary.find(right), ab = vocabulary.find(left + right);
    check(a && b && ab, tokenizer.name, ": model.merges joins '", left, "' and '", right,
          "', but model.vocab lacks one of them or the two together");
    out.add(*a, *b, *ab);
  }
  return out;
}

void check_options(const JsonFile& tokenizer) {
  const json& model = tokenizer.root["model"];
  Errors errors;
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!json_value<std::string>(model, key, "", tokenizer.name).empty())
      errors.add("model.", key, " is '", model[key].get<std::string>(), "'");
  if (json_value<bool>(model, "byte_fallback", false, tokenizer.name))
    errors.add("model.byte_fallback is true");
  if (json_value<double>(model, "dropout", 0.0, tokenizer.name) != 0) errors.add("model.dropout is not 0");
  const std::string decoder = component_type(tokenizer.root, "decoder");
  if (decoder != "ByteLevel") errors.add("decoder is '", decoder, "', not ByteLevel");
  errors.throw_if_any(cat(tokenizer.name, ": not supported for byte-level BPE"));
}

}  // namespace

bool is_byte_bpe(const JsonFile& tokenizer) {
  if (model_type(tokenizer) != "BPE") return false;
  if (component_type(tokenizer.root, "decoder") == "ByteLevel") return true;
  return component_type(tokenizer.root, "pre_tokenizer") == "ByteLevel";
}

std::unique_ptr<Tokenizer> make_byte_bpe(const JsonFile& tokenizer, const TokenizerConfig& config) {
  check_options(tokenizer);
  const json& model = tokenizer.root["model"];
  TokenizerParts parts;
  parts.vocabulary = read_vocabulary(tokenizer);
  ByteBpeModel bpe;
  bpe.merges = read_merges(tokenizer, parts.vocabulary);
  bpe.splitter = ByteSplitter::from_json(tokenizer.root.value("pre_tokenizer", json()), tokenizer.name);
  bpe.fuse_unknown = json_value<bool>(model, "fuse_unk", false, tokenizer.name);
  bpe.whole_words_first = json_value<bool>(model, "ignore_merges", false, tokenizer.name);
  const auto unknown = json_value<std::string>(model, "unk_token", "", tokenizer.name);
  if (!unknown.empty()) bpe.unknown = parts.vocabulary.find(unknown);
  std::vector<AddedToken> added = read_added_tokens(tokenizer, parts.vocabulary);
  parts.added = AddedTokens(
      std::move(added), Normalizer::from_json(tokenizer.root.value("normalizer", json()), tokenizer.name));
  parts.layout = read_template(tokenizer);
  parts.layout.cut_left = config.cut_left();
  parts.special = find_special_ids(config, parts.vocabulary);
  return std::make_unique<ByteBpeTokenizer>(std::move(parts), std::move(bpe));
}

}  // namespace deeplora
