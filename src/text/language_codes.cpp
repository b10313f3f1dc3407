#include "text/language_codes.h"

#include <algorithm>

namespace deeplora {
namespace {

using Kind = LayoutPiece::Kind;

/// How a class marks texts: the code in front or behind, and the language of a source that nobody names.
struct Marks {
  const char* name;
  bool code_first;
  const char* usual;
};
constexpr Marks kClasses[] = {
    {"MBartTokenizer", false, "en_XX"}, {"MBart50Tokenizer", true, "en_XX"}, {"NllbTokenizer", true, "eng_Latn"}};

SequenceTemplate layout_of(bool code_first, int64_t code, int64_t eos) {
  SequenceTemplate out;
  const auto make = [&](std::vector<LayoutPiece>& layout, bool two) {
    layout.clear();
    if (code_first) layout.push_back({Kind::special, code, 0});
    layout.push_back({Kind::first, -1, 0});
    if (two) layout.push_back({Kind::second, -1, 0});
    layout.push_back({Kind::special, eos, 0});
    if (!code_first) layout.push_back({Kind::special, code, 0});
  };
  make(out.single, false);
  make(out.pair, true);
  return out;
}

}  // namespace

void use_language_codes(const JsonFile& tokenizer, const TokenizerConfig& config, const Languages& languages,
                        const AddedVocabulary& vocabulary, SequenceTemplate& source, TargetLayout& target) {
  const std::string name = config.tokenizer_class();
  const auto marks =
      std::find_if(std::begin(kClasses), std::end(kClasses), [&](const Marks& one) { return name == one.name; });
  if (marks == std::end(kClasses)) {
    check(languages.source.empty() && languages.target.empty(), tokenizer.name,
          ": data.source_language and data.target_language are for tokenizers that mark ",
          "texts with their language (tokenizer_class MBartTokenizer, MBart50Tokenizer or NllbTokenizer); this one's "
          "class is '",
          name, "'");
    return;
  }
  const bool code_first =
      marks->code_first && !(name == "NllbTokenizer" && config.value<bool>("legacy_behaviour", false));
  const auto id_of = [&](const std::string& language, const char* key) {
    const auto id = vocabulary.find(language);
    check(id.has_value(), tokenizer.name, ": ", key, " is '", language,
          "', which the tokenizer has no token for; codes look like '", marks->usual, "'");
    return *id;
  };
  const auto eos = vocabulary.find(config.token("eos_token", "</s>"));
  check(eos.has_value(), tokenizer.name, ": has no '", config.token("eos_token", "</s>"), "', which ends every text");
  const std::string from =
      !languages.source.empty() ? languages.source : config.value<std::string>("src_lang", marks->usual);
  source = layout_of(code_first, id_of(from, "data.source_language"), *eos);
  const std::string to = !languages.target.empty() ? languages.target : config.value<std::string>("tgt_lang", "");
  if (to.empty()) {
    target.missing =
        cat("texts to be written carry the code of their language, which is not known; set data.target_language (the "
            "source's is '",
            from, "')");
    return;
  }
  target.layout = layout_of(code_first, id_of(to, "data.target_language"), *eos);
}

}  // namespace deeplora
