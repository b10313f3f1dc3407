#include "text/decoder.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "core/files.h"
#include "text/byte_level.h"
#include "text/expression.h"

namespace deeplora {
namespace {

using Strings = std::vector<std::string>;

/// Spaces before punctuation and the parts of contractions, in the library's order.
void clean_up(std::string& piece) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kReplacements{{{" .", "."},
                                                                                         {" ?", "?"},
                                                                                         {" !", "!"},
                                                                                         {" ,", ","},
                                                                                         {" ' ", "'"},
                                                                                         {" n't", "n't"},
                                                                                         {" 'm", "'m"},
                                                                                         {" do not", " don't"},
                                                                                         {" 's", "'s"},
                                                                                         {" 've", "'ve"},
                                                                                         {" 're", "'re"}}};
  for (const auto& [from, to] : kReplacements) replace_all(piece, from, to);
}

struct WordPieceDecoder final : Decoder {
  std::string prefix;
  bool cleanup;
  explicit WordPieceDecoder(const Component& part) {
    part.known({"prefix", "cleanup"});
    prefix = part.value<std::string>("prefix", "##");
    cleanup = part.value("cleanup", true);
  }
  void apply(Strings& pieces) const override {
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (i > 0) {
        if (pieces[i].starts_with(prefix)) pieces[i].erase(0, prefix.size());
        else pieces[i].insert(0, 1, ' ');
      }
      if (cleanup) clean_up(pieces[i]);
    }
  }
};

struct ByteLevelDecoder final : Decoder {
  void apply(Strings& pieces) const override {
    std::string bytes;
    for (const std::string& piece : pieces) {
      const size_t before = bytes.size();
      for (size_t at = 0; at < piece.size(); at += utf8_length(piece[at])) {
        const auto byte = byte_of(utf8_at(piece, at));
        if (!byte) {  // a piece with a character that stands for no byte is itself
          bytes.resize(before);
          bytes += piece;
          break;
        }
        bytes += *byte;
      }
    }
    pieces = {replace_broken(bytes)};
  }
};

struct MetaspaceDecoder final : Decoder {
  std::string replacement;
  bool drops_first;
  explicit MetaspaceDecoder(const Component& part) {
    part.known({"replacement", "prepend_scheme", "add_prefix_space", "split", "str_rep"});
    append_utf8(replacement, part.character("replacement"));
    const auto scheme = part.value<std::string>("prepend_scheme", "always");
    check(scheme == "first" || scheme == "never" || scheme == "always", part.where(), ": prepend_scheme '", scheme,
          "' is not supported; known: first, never, always");
    drops_first = scheme != "never" && part.value("add_prefix_space", true);
  }
  void apply(Strings& pieces) const override {
    for (size_t i = 0; i < pieces.size(); ++i) replace_all(pieces[i], replacement, i == 0 && drops_first ? "" : " ");
  }
};

struct BpeDecoder final : Decoder {
  std::string suffix;
  explicit BpeDecoder(const Component& part) {
    part.known({"suffix"});
    suffix = part.value<std::string>("suffix", "</w>");
    check(!suffix.empty(), part.where(), ": suffix is empty, which is not supported");
  }
  void apply(Strings& pieces) const override {
    for (size_t i = 0; i < pieces.size(); ++i) replace_all(pieces[i], suffix, i + 1 == pieces.size() ? "" : " ");
  }
};

struct CtcDecoder final : Decoder {
  std::string pad, delimiter;
  bool cleanup;
  explicit CtcDecoder(const Component& part) {
    part.known({"pad_token", "word_delimiter_token", "cleanup"});
    pad = part.value<std::string>("pad_token", "<pad>");
    delimiter = part.value<std::string>("word_delimiter_token", "|");
    cleanup = part.value("cleanup", true);
    check(!pad.empty() && !delimiter.empty(), part.where(),
          ": an empty pad_token or word_delimiter_token is not supported");
  }
  void apply(Strings& pieces) const override {
    pieces.erase(std::unique(pieces.begin(), pieces.end()), pieces.end());
    for (std::string& piece : pieces) {
      replace_all(piece, pad, "");
      if (!cleanup) continue;
      clean_up(piece);
      replace_all(piece, delimiter, " ");
    }
    std::erase(pieces, "");
  }
};

struct FuseDecoder final : Decoder {
  void apply(Strings& pieces) const override {
    std::string all;
    for (const std::string& piece : pieces) all += piece;
    pieces = {std::move(all)};
  }
};

struct StripDecoder final : Decoder {
  std::string content;
  size_t start, stop;
  explicit StripDecoder(const Component& part) {
    part.known({"content", "start", "stop"});
    append_utf8(content, part.character("content"));
    start = part.at<size_t>("start");
    stop = part.at<size_t>("stop");
  }
  void apply(Strings& pieces) const override {
    for (std::string& piece : pieces) {
      size_t begin = 0, end = piece.size();
      for (size_t i = 0; i < start && std::string_view(piece).substr(begin).starts_with(content); ++i)
        begin += content.size();
      // What both ends would take is taken once.
      for (size_t i = 0; i < stop && std::string_view(piece).substr(begin, end - begin).ends_with(content); ++i)
        end -= content.size();
      piece = piece.substr(begin, end - begin);
    }
  }
};

struct ByteFallbackDecoder final : Decoder {
  /// The value of a byte piece "<0x0A>".
  static std::optional<char> value_of(std::string_view piece) {
    if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') return std::nullopt;
    std::string_view digits = piece.substr(3, 2);
    if (digits[0] == '+') digits.remove_prefix(1);
    unsigned value = 0;
    const auto [rest, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (failed != std::errc() || rest != digits.data() + digits.size()) return std::nullopt;
    return static_cast<char>(value);
  }
  void apply(Strings& pieces) const override {
    Strings out;
    std::string bytes;
    const auto flush = [&] {
      // Byte pieces that make no character become one replacement character each.
      if (is_valid_utf8(bytes) && !bytes.empty()) out.push_back(bytes);
      else out.insert(out.end(), bytes.size(), "\xEF\xBF\xBD");
      bytes.clear();
    };
    for (std::string& piece : pieces) {
      if (const auto byte = value_of(piece)) {
        bytes += *byte;
        continue;
      }
      flush();
      out.push_back(std::move(piece));
    }
    flush();
    pieces = std::move(out);
  }
};

struct ReplaceDecoder final : Decoder {
  Expression pattern;
  std::string content;
  explicit ReplaceDecoder(const Component& part) {
    part.known({"pattern", "content"});
    pattern = part.has_regex() ? Expression::regex(part.pattern(), part.where())
                               : Expression::plain(part.pattern(), part.where());
    content = part.at<std::string>("content");
  }
  void apply(Strings& pieces) const override {
    std::vector<Match> matches;
    for (std::string& piece : pieces) {
      if (piece.empty()) continue;
      matches.clear();
      pattern.find(piece, matches);
      std::string made;
      for (const Match& one : matches) made += one.matched ? content : piece.substr(one.begin, one.end - one.begin);
      piece = std::move(made);
    }
  }
};

void read_into(const Component& part, std::vector<std::unique_ptr<Decoder>>& out) {
  const std::string& type = part.type();
  if (type == "Sequence") {
    part.known({"decoders"});
    for (const Component& one : part.list("decoders")) read_into(one, out);
  } else if (type == "BPEDecoder") out.push_back(std::make_unique<BpeDecoder>(part));
  else if (type == "ByteFallback") {
    part.known({});
    out.push_back(std::make_unique<ByteFallbackDecoder>());
  } else if (type == "ByteLevel") {
    part.known({"add_prefix_space", "trim_offsets", "use_regex"});
    out.push_back(std::make_unique<ByteLevelDecoder>());
  } else if (type == "CTC") out.push_back(std::make_unique<CtcDecoder>(part));
  else if (type == "Fuse") {
    part.known({});
    out.push_back(std::make_unique<FuseDecoder>());
  } else if (type == "Metaspace") out.push_back(std::make_unique<MetaspaceDecoder>(part));
  else if (type == "Replace") out.push_back(std::make_unique<ReplaceDecoder>(part));
  else if (type == "Strip") out.push_back(std::make_unique<StripDecoder>(part));
  else if (type == "WordPiece") out.push_back(std::make_unique<WordPieceDecoder>(part));
  else
    part.refuse({"BPEDecoder", "ByteFallback", "ByteLevel", "CTC", "Fuse", "Metaspace", "Replace", "Sequence", "Strip",
                 "WordPiece"});
}

}  // namespace

std::vector<std::unique_ptr<Decoder>> read_decoders(const nlohmann::json& value, const std::string& where) {
  std::vector<std::unique_ptr<Decoder>> out;
  if (!value.is_null()) read_into(Component(value, where), out);
  return out;
}

}  // namespace deeplora
