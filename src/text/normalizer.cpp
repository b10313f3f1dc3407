#include "text/normalizer.h"

#include <algorithm>

#include "text/byte_level.h"
#include "text/charsmap.h"
#include "text/expression.h"

namespace deeplora {
namespace {

void lowercase(AlignedText& text) {
  if (std::all_of(text.text.begin(), text.text.end(), [](char c) { return static_cast<signed char>(c) >= 0; })) {
    for (char& c : text.text)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    return;
  }
  std::vector<Change> changes;
  changes.reserve(text.text.size());
  for (size_t at = 0; at < text.text.size(); at += utf8_length(text.text[at]))
    append_lowercase(changes, utf8_at(text.text, at));
  text.transform(changes);
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<signed char>(c) >= 0; });
}

/// BERT's clean-up; the steps run in this order.
struct BertNormalizer final : Normalizer {
  bool clean_text = true;            ///< drop control characters, turn white space into ' '
  bool handle_chinese_chars = true;  ///< a space on each side of CJK ideographs
  bool strip_accents = true;         ///< NFD, then drop the non-spacing marks
  bool lower = true;

  explicit BertNormalizer(const Component& part) {
    part.known({"clean_text", "handle_chinese_chars", "strip_accents", "lowercase"});
    clean_text = part.value("clean_text", true);
    handle_chinese_chars = part.value("handle_chinese_chars", true);
    lower = part.value("lowercase", true);
    strip_accents = part.value("strip_accents", lower);
  }

  void apply(AlignedText& text) const override {
    if (!text.tracked && is_ascii(text.text)) return apply_to_ascii(text.text);
    if (clean_text) clean(text);
    if (handle_chinese_chars) space_chinese(text);
    if (strip_accents) {
      text.transform(normal_form(text.text, NormalForm::nfd));
      text.filter([](char32_t code) { return !is_class(code, CharClass::mark); });
    }
    if (lower) lowercase(text);
  }

 private:
  void apply_to_ascii(std::string& text) const {
    size_t kept = 0;
    for (char c : text) {
      const bool blank = c == '\t' || c == '\n' || c == '\r';
      if (clean_text) {
        if (!blank && (c < 0x20 || c == 0x7F)) continue;
        if (blank) c = ' ';
      }
      text[kept++] = lower && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    }
    text.resize(kept);
  }

  static void clean(AlignedText& text) {
    // Tab and line ends are control characters to Unicode, white space to BERT.
    const auto is_blank = [](char32_t code) { return code == '\t' || code == '\n' || code == '\r'; };
    text.filter([&](char32_t code) { return is_blank(code) || !is_class(code, CharClass::removed); });
    std::vector<Change> changes;
    changes.reserve(text.text.size());
    for (size_t at = 0; at < text.text.size(); at += utf8_length(text.text[at])) {
      const char32_t code = utf8_at(text.text, at);
      changes.push_back({is_space(code) ? U' ' : code, 0});
    }
    text.transform(changes);
  }

  static void space_chinese(AlignedText& text) {
    std::vector<Change> changes;
    changes.reserve(text.text.size());
    for (size_t at = 0; at < text.text.size(); at += utf8_length(text.text[at])) {
      const char32_t code = utf8_at(text.text, at);
      if (is_class(code, CharClass::chinese)) changes.insert(changes.end(), {{U' ', 0}, {code, 1}, {U' ', 1}});
      else changes.push_back({code, 0});
    }
    text.transform(changes);
  }
};

struct UnicodeNormalizer final : Normalizer {
  NormalForm form;
  explicit UnicodeNormalizer(NormalForm wanted) : form(wanted) {}
  void apply(AlignedText& text) const override {
    if (!is_ascii(text.text)) text.transform(normal_form(text.text, form));
  }
};

struct Lowercase final : Normalizer {
  void apply(AlignedText& text) const override { lowercase(text); }
};

struct StripAccents final : Normalizer {
  void apply(AlignedText& text) const override {
    if (!is_ascii(text.text)) text.filter([](char32_t code) { return !is_class(code, CharClass::combining_mark); });
  }
};

struct StripSpaces final : Normalizer {
  bool left, right;
  explicit StripSpaces(const Component& part) {
    part.known({"strip_left", "strip_right"});
    left = part.at<bool>("strip_left");
    right = part.at<bool>("strip_right");
  }
  void apply(AlignedText& text) const override {
    size_t begin = 0, end = text.text.size();
    while (left && begin < end && is_space(utf8_at(text.text, begin))) begin += utf8_length(text.text[begin]);
    while (right && end > begin && is_space(utf8_at(text.text, utf8_before(text.text, end))))
      end = utf8_before(text.text, end);
    if (begin == 0 && end == text.text.size()) return;
    text.text = text.text.substr(begin, end - begin);
    if (text.tracked) {
      text.spans.resize(end);
      text.spans.erase(text.spans.begin(), text.spans.begin() + static_cast<std::ptrdiff_t>(begin));
    }
  }
};

/// The clean-up of neural machine translation.
struct Nmt final : Normalizer {
  void apply(AlignedText& text) const override {
    text.filter([](char32_t c) {
      return !((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F);
    });
    std::vector<Change> changes;
    for (size_t at = 0; at < text.text.size(); at += utf8_length(text.text[at])) {
      const char32_t c = utf8_at(text.text, at);
      const bool blank = c == 0x9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                         c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
      changes.push_back({blank ? U' ' : c, 0});
    }
    text.transform(changes);
  }
};

struct Prepend final : Normalizer {
  std::string prefix;
  explicit Prepend(const Component& part) {
    part.known({"prepend"});
    prefix = part.at<std::string>("prepend");
    check_utf8(prefix, cat(part.where(), ": prepend"));
  }
  // An empty prefix doubles nothing and takes nothing away, in the library too.
  void apply(AlignedText& text) const override { text.prepend(prefix); }
};

struct Replace final : Normalizer {
  Expression pattern;
  std::string content, where;
  explicit Replace(const Component& part) : where(part.where()) {
    part.known({"pattern", "content"});
    pattern = part.has_regex() ? Expression::regex(part.pattern(), part.where())
                               : Expression::plain(part.pattern(), part.where());
    content = part.at<std::string>("content");
    check_utf8(content, cat(part.where(), ": content"));
  }
  void apply(AlignedText& text) const override {
    if (text.text.empty()) return;
    std::vector<Match> matches;
    pattern.find(text.text, matches);
    if (std::none_of(matches.begin(), matches.end(), [](const Match& one) { return one.matched; })) return;
    AlignedText made;
    made.tracked = text.tracked;
    for (const Match& one : matches) {
      if (!one.matched) {
        made.append(text, one.begin, one.end);
        continue;
      }
      check(one.end > 0 || !text.tracked, where,
            ": the expression matches nothing at the beginning of a text, where the library loses track of ",
            "where its tokens lie; it can be used where nobody asks for that");
      made.append_aligned(content, text, std::max<size_t>(one.end, 1) - 1);
    }
    text = std::move(made);
  }
};

struct ByteLevelNormalizer final : Normalizer {
  void apply(AlignedText& text) const override { to_byte_characters(text); }
};

void read_into(const Component& part, std::vector<std::unique_ptr<Normalizer>>& out) {
  const std::string& type = part.type();
  const auto add = [&]<class T>(std::unique_ptr<T> one) { out.push_back(std::move(one)); };
  const auto bare = [&]<class T>(std::unique_ptr<T> one) {
    part.known({});
    out.push_back(std::move(one));
  };
  if (type == "Sequence") {
    part.known({"normalizers"});
    for (const Component& one : part.list("normalizers")) read_into(one, out);
  } else if (type == "BertNormalizer") add(std::make_unique<BertNormalizer>(part));
  else if (type == "NFC") bare(std::make_unique<UnicodeNormalizer>(NormalForm::nfc));
  else if (type == "NFD") bare(std::make_unique<UnicodeNormalizer>(NormalForm::nfd));
  else if (type == "NFKC") bare(std::make_unique<UnicodeNormalizer>(NormalForm::nfkc));
  else if (type == "NFKD") bare(std::make_unique<UnicodeNormalizer>(NormalForm::nfkd));
  else if (type == "Lowercase") bare(std::make_unique<Lowercase>());
  else if (type == "StripAccents") bare(std::make_unique<StripAccents>());
  else if (type == "Nmt") bare(std::make_unique<Nmt>());
  else if (type == "ByteLevel") bare(std::make_unique<ByteLevelNormalizer>());
  else if (type == "Strip") add(std::make_unique<StripSpaces>(part));
  else if (type == "Prepend") add(std::make_unique<Prepend>(part));
  else if (type == "Replace") add(std::make_unique<Replace>(part));
  else if (type == "Precompiled") add(std::make_unique<Charsmap>(part));
  else
    part.refuse({"BertNormalizer", "ByteLevel", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled",
                 "Prepend", "Replace", "Sequence", "Strip", "StripAccents"});
}

}  // namespace

std::vector<std::unique_ptr<Normalizer>> read_normalizers(const nlohmann::json& value, const std::string& where) {
  std::vector<std::unique_ptr<Normalizer>> out;
  if (!value.is_null()) read_into(Component(value, where), out);
  return out;
}

}  // namespace deeplora
