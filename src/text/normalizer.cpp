#include "text/normalizer.h"

#include "core/error.h"
#include "text/tokenizer_json.h"
#include "text/unicode.h"

namespace deeplora {
namespace {

std::u32string lowercase(std::u32string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (const char32_t code : text) append_lowercase(out, code);
  return out;
}

std::u32string clean(std::u32string_view text, bool clean_text, bool handle_chinese_chars) {
  std::u32string out;
  out.reserve(text.size() + 8);
  for (char32_t code : text) {
    if (clean_text) {
      // Tab and line ends are control characters to Unicode, white space to BERT.
      const bool kept = code == '\t' || code == '\n' || code == '\r';
      if (!kept && is_removed(code)) continue;
      if (is_space(code)) code = ' ';
    }
    if (handle_chinese_chars && is_chinese(code))
      out.append({U' ', code, U' '});
    else
      out.push_back(code);
  }
  return out;
}

}  // namespace

std::u32string BertNormalizer::operator()(std::u32string_view text) const {
  std::u32string out = clean(text, clean_text, handle_chinese_chars);
  if (strip_accents) {
    out = nfd(out);
    std::erase_if(out, is_mark);
  }
  return lowercase ? deeplora::lowercase(out) : out;
}

Normalizer Normalizer::from_json(const nlohmann::json& value, const std::string& file) {
  Normalizer out;
  if (value.is_null()) return out;
  const auto type = json_value<std::string>(value, "type", "", file);
  if (type == "BertNormalizer") {
    BertNormalizer bert;
    bert.clean_text = json_value<bool>(value, "clean_text", true, file);
    bert.handle_chinese_chars = json_value<bool>(value, "handle_chinese_chars", true, file);
    bert.lowercase = json_value<bool>(value, "lowercase", true, file);
    bert.strip_accents = json_value<bool>(value, "strip_accents", bert.lowercase, file);
    out.steps_ = {Step{Step::Kind::bert, bert}};
  } else if (type == "Lowercase") {
    out.steps_ = {Step{Step::Kind::lowercase}};
  } else if (type == "NFC") {
    out.steps_ = {Step{Step::Kind::nfc}};
  } else if (type == "NFD") {
    out.steps_ = {Step{Step::Kind::nfd}};
  } else {
    check(type == "Sequence" && value.contains("normalizers"), file, ": normalizer '", type,
          "' is not supported; known: BertNormalizer, Lowercase, NFC, NFD, Sequence");
    for (const auto& one : value["normalizers"]) {
      const Normalizer part = from_json(one, file);
      out.steps_.insert(out.steps_.end(), part.steps_.begin(), part.steps_.end());
    }
  }
  return out;
}

std::u32string Normalizer::operator()(std::u32string_view text) const {
  std::u32string out(text);
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Step::Kind::bert:
        out = step.bert(out);
        break;
      case Step::Kind::lowercase:
        out = lowercase(out);
        break;
      case Step::Kind::nfc:
        out = nfc(out);
        break;
      case Step::Kind::nfd:
        out = nfd(out);
        break;
    }
  }
  return out;
}

}  // namespace deeplora
