#include "text/pre_tokenizer.h"

#include <algorithm>

#include "text/byte_level.h"
#include "text/expression.h"
#include "text/known_splitters.h"

namespace deeplora {
namespace {

/// What becomes of the text between which a splitter cuts: of "-" in "the-final--countdown".
enum class Behavior {
  removed,               // the final countdown
  isolated,              // the - final - - countdown
  merged_with_previous,  // the- final- - countdown
  merged_with_next,      // the -final - -countdown
  contiguous,            // the - final -- countdown
};

Behavior read_behavior(const Component& part, const char* fallback) {
  const auto name = part.value<std::string>("behavior", fallback);
  static const std::pair<const char*, Behavior> kNames[] = {{"Removed", Behavior::removed},
                                                            {"Isolated", Behavior::isolated},
                                                            {"MergedWithPrevious", Behavior::merged_with_previous},
                                                            {"MergedWithNext", Behavior::merged_with_next},
                                                            {"Contiguous", Behavior::contiguous}};
  for (const auto& [known, behavior] : kNames)
    if (name == known) return behavior;
  fail(part.where(), ": behavior '", name,
       "' is not supported; known: Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

/// Appends the pieces that a behaviour makes of a text's matches; `base`: where the text begins. Empty pieces are left
/// out.
void append_pieces(const std::vector<Match>& matches, Behavior behavior, uint32_t base, std::vector<Piece>& out) {
  const auto add = [&](uint32_t begin, uint32_t end) {
    if (begin < end) out.push_back({base + begin, base + end});
  };
  if (behavior == Behavior::removed || behavior == Behavior::isolated) {
    for (const Match& one : matches)
      if (!one.matched || behavior == Behavior::isolated) add(one.begin, one.end);
    return;
  }
  std::vector<Match> joined;
  bool previous = false;
  const auto join = [&](const Match& one, bool with_last) {
    if (with_last && !joined.empty()) {
      joined.back().begin = std::min(joined.back().begin, one.begin);
      joined.back().end = std::max(joined.back().end, one.end);
    } else {
      joined.push_back(one);
    }
    previous = one.matched;
  };
  if (behavior == Behavior::merged_with_next) {
    for (auto one = matches.rbegin(); one != matches.rend(); ++one) join(*one, one->matched && !previous);
    std::reverse(joined.begin(), joined.end());
  } else {
    const bool contiguous = behavior == Behavior::contiguous;
    for (const Match& one : matches) join(one, contiguous ? one.matched == previous : one.matched && !previous);
  }
  for (const Match& one : joined) add(one.begin, one.end);
}

/// Cuts every piece that is no added token: cut(text, base, out).
template <class Cut>
void cut_each(Pieces& pieces, Cut cut) {
  std::vector<Piece> out;
  out.reserve(pieces.list.size() * 2 + pieces.text.text.size() / 4);
  for (const Piece& piece : pieces.list) {
    if (piece.id >= 0) out.push_back(piece);
    else cut(std::string_view(pieces.text.text).substr(piece.begin, piece.end - piece.begin), piece.begin, out);
  }
  pieces.list = std::move(out);
}

/// Matches of single characters for which `holds` is true.
template <class Holds>
void find_characters(std::string_view text, Holds holds, std::vector<Match>& out) {
  uint32_t done = 0;
  for (uint32_t at = 0; at < text.size();) {
    const auto next = at + static_cast<uint32_t>(utf8_length(text[at]));
    if (holds(utf8_at(text, at))) {
      if (done < at) out.push_back({done, at, false});
      out.push_back({at, next, true});
      done = next;
    }
    at = next;
  }
  if (done < text.size()) out.push_back({done, static_cast<uint32_t>(text.size()), false});
}

/// A splitter at single characters.
template <class Holds>
class CharacterSplit final : public PreTokenizer {
 public:
  CharacterSplit(Holds holds, Behavior behavior) : holds_(holds), behavior_(behavior) {}
  void apply(Pieces& pieces) const override {
    std::vector<Match> matches;
    cut_each(pieces, [&](std::string_view text, uint32_t base, std::vector<Piece>& out) {
      matches.clear();
      find_characters(text, holds_, matches);
      append_pieces(matches, behavior_, base, out);
    });
  }

 private:
  Holds holds_;
  Behavior behavior_;
};

template <class Holds>
std::unique_ptr<PreTokenizer> character_split(Holds holds, Behavior behavior) {
  return std::make_unique<CharacterSplit<Holds>>(holds, behavior);
}

/// At white space, which goes, and at punctuation, which stands alone.
struct BertPreTokenizer final : PreTokenizer {
  void apply(Pieces& pieces) const override {
    cut_each(pieces, [](std::string_view text, uint32_t base, std::vector<Piece>& out) {
      uint32_t begin = 0, at = 0;
      const auto close = [&](uint32_t end) {
        if (begin < end) out.push_back({base + begin, base + end});
      };
      while (at < text.size()) {
        const char32_t code = utf8_at(text, at);
        const auto next = at + static_cast<uint32_t>(utf8_length(text[at]));
        const bool space = is_space(code), punctuation = !space && is_punctuation(code);
        if (space || punctuation) {
          close(at);
          begin = at;
          if (punctuation) close(next);
          begin = next;
        }
        at = next;
      }
      close(at);
    });
  }
};

/// The expression \w+|[^\w\s]+
struct Whitespace final : PreTokenizer {
  void apply(Pieces& pieces) const override {
    cut_each(pieces, [](std::string_view text, uint32_t base, std::vector<Piece>& out) {
      const auto kind = [&](uint32_t at) {
        const char32_t code = utf8_at(text, at);
        return is_class(code, CharClass::word) ? 1 : is_space(code) ? 0 : 2;
      };
      for (uint32_t at = 0; at < text.size();) {
        const uint32_t begin = at;
        const int own = kind(at);
        while (at < text.size() && kind(at) == own) at += static_cast<uint32_t>(utf8_length(text[at]));
        if (own != 0) out.push_back({base + begin, base + at});
      }
    });
  }
};

struct Split final : PreTokenizer {
  Expression pattern;
  Behavior behavior;
  bool invert;
  explicit Split(const Component& part) {
    part.known({"pattern", "behavior", "invert"});
    pattern = part.has_regex() ? Expression::regex(part.pattern(), part.where())
                               : Expression::plain(part.pattern(), part.where());
    behavior = read_behavior(part, "");
    invert = part.value("invert", false);
  }
  void apply(Pieces& pieces) const override {
    std::vector<Match> matches;
    cut_each(pieces, [&](std::string_view text, uint32_t base, std::vector<Piece>& out) {
      matches.clear();
      pattern.find(text, matches);
      if (invert)
        for (Match& one : matches) one.matched = !one.matched;
      append_pieces(matches, behavior, base, out);
    });
  }
};

struct FixedLength final : PreTokenizer {
  size_t length;
  explicit FixedLength(const Component& part) {
    part.known({"length"});
    length = part.value<size_t>("length", 5);
    check(length > 0, part.where(), ": length is 0; expected at least 1");
  }
  void apply(Pieces& pieces) const override {
    cut_each(pieces, [&](std::string_view text, uint32_t base, std::vector<Piece>& out) {
      uint32_t begin = 0, at = 0;
      for (size_t count = 0; at < text.size();) {
        at += static_cast<uint32_t>(utf8_length(text[at]));
        if (++count < length && at < text.size()) continue;
        out.push_back({base + begin, base + at});
        begin = at;
        count = 0;
      }
    });
  }
};

struct UnicodeScripts final : PreTokenizer {
  void apply(Pieces& pieces) const override {
    cut_each(pieces, [](std::string_view text, uint32_t base, std::vector<Piece>& out) {
      int last = -1;
      std::optional<uint32_t> begin;  // characters of no script at the very beginning are left out, as the library does
      for (uint32_t at = 0; at < text.size(); at += static_cast<uint32_t>(utf8_length(text[at]))) {
        const int script = script_of(utf8_at(text, at));
        if (script == 0) continue;
        if (script != last) {
          if (begin) out.push_back({base + *begin, base + at});
          begin = at;
        }
        last = script;
      }
      if (begin) out.push_back({base + *begin, base + static_cast<uint32_t>(text.size())});
    });
  }
};

/// Rewrites every piece into a new text: rewrite(piece, made) appends what becomes of it.
template <class Rewrite>
void rewrite_each(Pieces& pieces, Rewrite rewrite) {
  AlignedText made;
  made.tracked = pieces.text.tracked;
  made.text.reserve(pieces.text.text.size() * 2);
  for (Piece& piece : pieces.list) {
    const auto begin = static_cast<uint32_t>(made.text.size());
    if (piece.id >= 0) made.append(pieces.text, piece.begin, piece.end);
    else rewrite(piece, made);
    piece.begin = begin;
    piece.end = static_cast<uint32_t>(made.text.size());
  }
  pieces.text = std::move(made);
}

struct Metaspace final : PreTokenizer {
  enum class Scheme { first, never, always } scheme = Scheme::always;
  std::string replacement;
  bool split = true;

  explicit Metaspace(const Component& part) {
    part.known({"replacement", "prepend_scheme", "add_prefix_space", "split", "str_rep"});
    append_utf8(replacement, part.character("replacement"));
    split = part.value("split", true);
    const auto name = part.value<std::string>("prepend_scheme", "always");
    check(name == "first" || name == "never" || name == "always", part.where(), ": prepend_scheme '", name,
          "' is not supported; known: first, never, always");
    scheme = name == "first" ? Scheme::first : name == "never" ? Scheme::never : Scheme::always;
    if (!part.value("add_prefix_space", true)) {
      check(scheme == Scheme::never || !part.json().contains("prepend_scheme"), part.where(),
            ": add_prefix_space is false, but prepend_scheme is ", name);
      scheme = Scheme::never;
    }
  }

  void apply(Pieces& pieces) const override {
    rewrite_each(pieces, [&](const Piece& piece, AlignedText& made) { rewrite(pieces.text, piece, made); });
    if (!split) return;
    cut_each(pieces, [&](std::string_view text, uint32_t base, std::vector<Piece>& out) {
      for (size_t begin = 0; begin < text.size();) {
        const size_t end = std::min(text.find(replacement, begin + 1), text.size());
        out.push_back({base + static_cast<uint32_t>(begin), base + static_cast<uint32_t>(end)});
        begin = end;
      }
    });
  }
  bool asks_for_origin() const override { return scheme == Scheme::first; }
  bool rewrites() const override { return true; }

 private:
  void rewrite(const AlignedText& text, const Piece& piece, AlignedText& made) const {
    const std::string_view own = std::string_view(text.text).substr(piece.begin, piece.end - piece.begin);
    const bool at_start = (text.tracked ? text.spans[piece.begin].begin : piece.begin) == 0;
    const bool wanted = scheme == Scheme::always || (scheme == Scheme::first && at_start);
    if (wanted && !own.starts_with(replacement) && own[0] != ' ') made.append_aligned(replacement, text, piece.begin);
    for (size_t at = piece.begin; at < piece.end;) {
      if (text.text[at] == ' ') {
        made.append_aligned(replacement, text, at);
        ++at;
        continue;
      }
      const size_t next = std::min<size_t>(text.text.find(' ', at), piece.end);
      made.append(text, at, next);
      at = next;
    }
  }
};

struct ByteLevel final : PreTokenizer {
  bool prefix_space, use_regex;
  Splitter splitter = known_splitter(kGpt2Expression);

  explicit ByteLevel(const Component& part) {
    part.known({"add_prefix_space", "trim_offsets", "use_regex"});
    prefix_space = part.value("add_prefix_space", true);
    use_regex = part.value("use_regex", true);
    part.value("trim_offsets", true);
  }

  void apply(Pieces& pieces) const override {
    if (prefix_space)
      rewrite_each(pieces, [&](const Piece& piece, AlignedText& made) {
        if (pieces.text.text[piece.begin] != ' ') made.append_aligned(" ", pieces.text, piece.begin);
        made.append(pieces.text, piece.begin, piece.end);
      });
    if (use_regex)
      cut_each(pieces, [&](std::string_view text, uint32_t base, std::vector<Piece>& out) {
        for (size_t at = 0; at < text.size();) {
          const size_t end = splitter(text, at);
          out.push_back({base + static_cast<uint32_t>(at), base + static_cast<uint32_t>(end)});
          at = end;
        }
      });
    rewrite_each(pieces, [&](const Piece& piece, AlignedText& made) {
      if (!made.tracked)
        return append_byte_characters(made.text,
                                      std::string_view(pieces.text.text).substr(piece.begin, piece.end - piece.begin));
      AlignedText own;
      own.tracked = true;
      own.append(pieces.text, piece.begin, piece.end);
      to_byte_characters(own);
      made.append(own, 0, own.text.size());
    });
  }
  bool rewrites() const override { return true; }
};

void read_into(const Component& part, std::vector<std::unique_ptr<PreTokenizer>>& out) {
  const std::string& type = part.type();
  const auto bare = [&](std::unique_ptr<PreTokenizer> one) {
    part.known({});
    out.push_back(std::move(one));
  };
  const auto digit = [](char32_t code) { return is_class(code, CharClass::digit); };
  if (type == "Sequence") {
    part.known({"pretokenizers"});
    for (const Component& one : part.list("pretokenizers")) read_into(one, out);
  } else if (type == "BertPreTokenizer") {
    bare(std::make_unique<BertPreTokenizer>());
  } else if (type == "ByteLevel") {
    out.push_back(std::make_unique<ByteLevel>(part));
  } else if (type == "CharDelimiterSplit") {
    part.known({"delimiter"});
    const char32_t delimiter = part.character("delimiter");
    out.push_back(character_split([delimiter](char32_t code) { return code == delimiter; }, Behavior::removed));
  } else if (type == "Digits") {
    part.known({"individual_digits"});
    out.push_back(
        character_split(digit, part.value("individual_digits", false) ? Behavior::isolated : Behavior::contiguous));
  } else if (type == "FixedLength") {
    out.push_back(std::make_unique<FixedLength>(part));
  } else if (type == "Metaspace") {
    out.push_back(std::make_unique<Metaspace>(part));
  } else if (type == "Punctuation") {
    part.known({"behavior"});
    out.push_back(character_split(is_punctuation, read_behavior(part, "Isolated")));
  } else if (type == "Split") {
    out.push_back(std::make_unique<Split>(part));
  } else if (type == "UnicodeScripts") {
    bare(std::make_unique<UnicodeScripts>());
  } else if (type == "Whitespace") {
    bare(std::make_unique<Whitespace>());
  } else if (type == "WhitespaceSplit") {
    bare(character_split([](char32_t code) { return is_space(code); }, Behavior::removed));
  } else {
    part.refuse({"BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "FixedLength", "Metaspace",
                 "Punctuation", "Sequence", "Split", "UnicodeScripts", "Whitespace", "WhitespaceSplit"});
  }
}

}  // namespace

std::vector<std::unique_ptr<PreTokenizer>> read_pre_tokenizers(const nlohmann::json& value, const std::string& where) {
  std::vector<std::unique_ptr<PreTokenizer>> out;
  if (!value.is_null()) read_into(Component(value, where), out);
  return out;
}

}  // namespace deeplora
