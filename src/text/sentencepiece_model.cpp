#include "text/sentencepiece_model.h"

#include <bit>
#include <map>
#include <set>

namespace deeplora {
namespace {

using nlohmann::json;

// sentencepiece_model.proto: ModelProto {pieces 1, trainer_spec 2, normalizer_spec 3}.
enum PieceType : uint64_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kByte = 6 };

/// Protocol buffer wire format.
class Message {
 public:
  void number(int field, uint64_t value) {
    varint(static_cast<uint64_t>(field) << 3);
    varint(value);
  }
  void real(int field, float value) {
    varint((static_cast<uint64_t>(field) << 3) | 5);
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int i = 0; i < 4; ++i) bytes_ += static_cast<char>(bits >> (8 * i));
  }
  void text(int field, std::string_view value) {
    varint((static_cast<uint64_t>(field) << 3) | 2);
    varint(value.size());
    bytes_ += value;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void varint(uint64_t value) {
    for (; value >= 128; value >>= 7) bytes_ += static_cast<char>((value & 127) | 128);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

struct Piece {
  std::string text;
  double score = 0;
  PieceType type = kNormal;
};

std::string from_base64(const std::string& text, const std::string& file) {
  std::string out;
  uint32_t bits = 0;
  int have = 0;
  for (const char c : text) {
    if (c == '=') break;
    const int value = c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+' ? 62 : c == '/' ? 63 : -1;
    check(value >= 0, file, ": normalizer.precompiled_charsmap is not base64");
    bits = (bits << 6) | static_cast<uint32_t>(value);
    have += 6;
    if (have < 8) continue;
    have -= 8;
    out += static_cast<char>((bits >> have) & 255);
  }
  return out;
}

/// Components of a normalizer or pre_tokenizer, sequences taken apart.
std::vector<json> components(const json& root, const std::string& key, const std::string& inner) {
  const auto found = root.find(key);
  if (found == root.end() || found->is_null()) return {};
  if (!found->contains(inner)) return {*found};
  return found->at(inner).get<std::vector<json>>();
}

struct Rules {
  std::string charsmap;
  bool prefix = false;       ///< a space is put before the text
  bool trims = false;        ///< spaces around the text go, runs of them become one
};

Rules read_rules(const JsonFile& tokenizer) {
  Rules out;
  const std::string& file = tokenizer.name;
  for (const json& one : components(tokenizer.root, "normalizer", "normalizers")) {
    const auto type = json_value<std::string>(one, "type", "", file);
    if (type == "Precompiled") {
      out.charsmap = from_base64(one.value("precompiled_charsmap", ""), file);
    } else if (type == "Prepend") {
      out.prefix = true;
    } else if (type == "Strip") {
      out.trims = true;
    } else if (type == "Replace") {
      const json pattern = one.value("pattern", json::object());
      if (pattern.contains("Regex")) out.trims = true;
      else check(pattern.value("String", "") == " ", file, ": normalizer Replace of '", pattern.value("String", ""), "' is not supported");
    } else {
      fail(file, ": normalizer '", type, "' is not supported for ", model_type(tokenizer));
    }
  }
  for (const json& one : components(tokenizer.root, "pre_tokenizer", "pretokenizers")) {
    const auto type = json_value<std::string>(one, "type", "", file);
    if (type == "Metaspace") {
      const auto scheme = one.value("prepend_scheme", one.value("add_prefix_space", true) ? "always" : "never");
      out.prefix |= scheme != "never";
    } else if (type == "WhitespaceSplit") {
      out.trims = true;
    } else {
      check(type == "Split", file, ": pre_tokenizer '", type, "' is not supported for ", model_type(tokenizer));
    }
  }
  return out;
}

/// Pieces by id; gaps and added tokens beyond the model's own vocabulary stay out.
std::vector<Piece> read_pieces(const JsonFile& tokenizer, bool unigram) {
  const json& model = tokenizer.root["model"];
  std::vector<Piece> out;
  if (unigram) {
    for (const json& entry : model.at("vocab")) out.push_back({entry.at(0).get<std::string>(), entry.at(1).get<double>()});
  } else {
    std::map<int64_t, std::string> by_id;
    for (const auto& [piece, id] : model.at("vocab").items()) by_id[id.get<int64_t>()] = piece;
    for (const auto& [id, piece] : by_id) {
      check(id == static_cast<int64_t>(out.size()), tokenizer.name, ": model.vocab has no piece ", out.size(), "; sentencepiece numbers them without gaps");
      out.push_back({piece, 0});
    }
    // A piece that no merge makes never comes of joining: the lowest score does not matter.
    const double lowest = -1e9;
    std::map<std::string, double> rank;
    double next = 0;
    for (const json& merge : model.at("merges")) {
      const std::string joined = merge.is_array() ? merge.at(0).get<std::string>() + merge.at(1).get<std::string>() : [&] {
        std::string text = merge.get<std::string>();
        const size_t space = text.find(' ');
        check(space != std::string::npos, tokenizer.name, ": model.merges holds '", text, R"('; expected "a b" or ["a", "b"])");
        text.erase(space, 1);
        return text;
      }();
      rank.try_emplace(joined, -(next++));
    }
    for (auto& piece : out) {
      const auto found = rank.find(piece.text);
      piece.score = found == rank.end() ? lowest : found->second;
    }
  }
  return out;
}

void mark_types(const JsonFile& tokenizer, std::vector<Piece>& pieces, bool bytes) {
  const json& model = tokenizer.root["model"];
  for (const json& token : tokenizer.root.value("added_tokens", json::array())) {
    const auto id = token.value("id", int64_t{-1});
    if (id < 0 || id >= static_cast<int64_t>(pieces.size())) continue;
    Piece& piece = pieces[static_cast<size_t>(id)];
    if (piece.text == token.value("content", "")) piece.type = token.value("special", false) ? kControl : kUserDefined;
  }
  for (auto& piece : pieces)
    if (bytes && piece.text.size() == 6 && piece.text.starts_with("<0x") && piece.text.ends_with(">")) piece.type = kByte;
  int64_t unknown = -1;
  if (model.contains("unk_id") && model["unk_id"].is_number_integer()) unknown = model["unk_id"].get<int64_t>();
  // Conversions with byte_fallback may leave it out: nothing is unknown then, but sentencepiece asks for it all the same.
  const auto unknown_name = json_value<std::string>(model, "unk_token", bytes ? "<unk>" : "", tokenizer.name);
  for (size_t i = 0; i < pieces.size(); ++i)
    if (pieces[i].text == unknown_name) unknown = static_cast<int64_t>(i);
  check(unknown >= 0 && unknown < static_cast<int64_t>(pieces.size()), tokenizer.name, ": model names no unknown token, which sentencepiece needs");
  pieces[static_cast<size_t>(unknown)].type = kUnknown;
}

}  // namespace

std::string sentencepiece_model(const JsonFile& tokenizer) {
  const json& model = tokenizer.root.at("model");
  const bool unigram = model_type(tokenizer) == "Unigram";
  const bool bytes = json_value<bool>(model, "byte_fallback", false, tokenizer.name);
  const Rules rules = read_rules(tokenizer);
  std::vector<Piece> pieces = read_pieces(tokenizer, unigram);
  mark_types(tokenizer, pieces, bytes);
  Message out;
  std::set<std::string> seen;
  for (const Piece& piece : pieces) {
    check(seen.insert(piece.text).second, tokenizer.name, ": model.vocab holds '", piece.text, "' twice");
    Message one;
    one.text(1, piece.text);
    one.real(2, static_cast<float>(piece.score));
    one.number(3, piece.type);
    out.text(1, one.bytes());
  }
  Message trainer;
  trainer.number(3, unigram ? 1 : 2);
  trainer.number(35, bytes ? 1 : 0);
  out.text(2, trainer.bytes());
  Message normalizer;
  normalizer.text(1, rules.charsmap.empty() ? "identity" : "user_defined");
  normalizer.text(2, rules.charsmap);
  normalizer.number(3, rules.prefix ? 1 : 0);
  normalizer.number(4, rules.trims ? 1 : 0);
  normalizer.number(5, 1);
  out.text(3, normalizer.bytes());
  return out.bytes();
}

}  // namespace deeplora
