#include "text/tokenizer_layouts.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_set>

#include "text/charsmap.h"
#include "text/marian_tokenizer.h"
#include "text/sentencepiece_file.h"
#include "text/tokenizer_class.h"
#include "text/tokenizer_pipeline.h"
#include "text/unicode.h"

namespace deeplora {
namespace {

using nlohmann::json;
using Tokens = std::vector<AddedToken>;

// Languages of mBART and, all of them, mBART-50.
constexpr const char* kMbartLanguages =
    "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM ne_NP nl_XX "
    "ro_RO "
    "ru_RU si_LK tr_TR vi_VN zh_CN ";
constexpr const char* kMbart50Languages =
    "af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF "
    "pt_XX sv_SE sw_KE ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI ";

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> out;
  for (size_t begin = 0, end; (end = text.find(' ', begin)) != std::string::npos; begin = end + 1)
    out.push_back(text.substr(begin, end - begin));
  return out;
}

/// What a class is made of, while it is being made: the parts of a tokenizer.json, and the configuration with the
/// class's own defaults.
struct Making {
  const TokenizerFiles& files;
  TokenizerConfig& config;
  std::string file;  ///< of the vocabulary, for errors
  std::optional<SentencePieceFile> sentencepiece;
  json root = json::object();

  template <class T>
  T setting(const char* key, T fallback) const {
    return config.value<T>(key, std::move(fallback));
  }
  /// The content of a named token, with the class's default; `flags` are added to a token that is a bare text.
  std::string token(const char* key, const char* fallback, const json& flags = {}) {
    if (!config.root.contains(key)) config.root[key] = fallback ? json(fallback) : json();
    json& value = config.root[key];
    if (value.is_string() && !flags.is_null()) {
      json whole = flags;
      whole["content"] = value;
      value = std::move(whole);
    }
    return config.token(key, "");
  }
  /// Further special tokens of the class; those that the configuration lists stand instead of them.
  void more_tokens(const Tokens& tokens) {
    for (const char* key : {"extra_special_tokens", "additional_special_tokens"})
      if (config.root.contains(key) && !config.root[key].empty()) return;
    json& list = config.root["extra_special_tokens"] = json::array();
    for (const AddedToken& one : tokens)
      list.push_back({{"content", one.content}, {"special", one.special}, {"normalized", one.normalized}});
  }
};

// A tokenizer.json's parts.

json typed(const char* type, json rest = json::object()) {
  rest["type"] = type;
  return rest;
}
json replace(const char* kind, const char* pattern, const char* content) {
  return typed("Replace", {{"pattern", {{kind, pattern}}}, {"content", content}});
}
json sequence(const char* key, json parts) { return typed("Sequence", {{key, std::move(parts)}}); }
json metaspace(const std::string& scheme, bool split = true) {
  return typed("Metaspace", {{"replacement", "\xE2\x96\x81"}, {"prepend_scheme", scheme}, {"split", split}});
}
json after_white_space(const std::string& scheme) {
  return sequence("pretokenizers", json::array({typed("WhitespaceSplit"), metaspace(scheme)}));
}
json byte_level(bool prefix_space, bool use_regex = true) {
  return typed("ByteLevel", {{"add_prefix_space", prefix_space}, {"trim_offsets", true}, {"use_regex", use_regex}});
}
json precompiled(const SentencePieceFile& model) {
  return typed("Precompiled", {{"precompiled_charsmap", to_base64(model.charsmap)}});
}

/// A layout spelled like "[CLS]:0 $A:0 [SEP]:0". The tokens' ids are filled in when the vocabulary is known.
json layout(const std::vector<std::pair<std::string, int>>& parts) {
  json out = json::array();
  for (const auto& [name, type_id] : parts) {
    if (name == "$A" || name == "$B") out.push_back({{"Sequence", {{"id", name.substr(1)}, {"type_id", type_id}}}});
    else out.push_back({{"SpecialToken", {{"id", name}, {"type_id", type_id}}}});
  }
  return out;
}
json template_processing(const std::vector<std::pair<std::string, int>>& single,
                         const std::vector<std::pair<std::string, int>>& pair) {
  return typed("TemplateProcessing",
               {{"single", layout(single)}, {"pair", layout(pair)}, {"special_tokens", json::object()}});
}
json bert_layout(const std::string& cls, const std::string& sep) {
  return template_processing({{cls, 0}, {"$A", 0}, {sep, 0}}, {{cls, 0}, {"$A", 0}, {sep, 0}, {"$B", 1}, {sep, 1}});
}
json roberta_layout(const std::string& cls, const std::string& sep) {
  return template_processing({{cls, 0}, {"$A", 0}, {sep, 0}},
                             {{cls, 0}, {"$A", 0}, {sep, 0}, {sep, 0}, {"$B", 0}, {sep, 0}});
}

/// <s> in front and </s> behind where add_bos_token and add_eos_token ask for them.
void add_switched_layout(Making& made) {
  const std::string bos = made.setting("add_bos_token", false) ? made.config.token("bos_token", "") : "";
  const std::string eos = made.setting("add_eos_token", false) ? made.config.token("eos_token", "") : "";
  std::vector<std::pair<std::string, int>> single, pair;
  const auto add = [&](std::vector<std::pair<std::string, int>>& out, const char* text, int type_id) {
    if (!bos.empty()) out.emplace_back(bos, type_id);
    out.emplace_back(text, type_id);
    if (!eos.empty()) out.emplace_back(eos, type_id);
  };
  add(single, "$A", 0);
  pair = single;
  add(pair, "$B", 1);
  made.root["post_processor"] = template_processing(single, pair);
}

// Models.

json unigram_pieces(const SentencePieceFile& model, size_t from = 0) {
  json out = json::array();
  for (size_t i = from; i < model.pieces.size(); ++i)
    out.push_back({model.pieces[i].text, static_cast<double>(model.pieces[i].score)});
  return out;
}
json unigram(json pieces, int64_t unknown_id) {
  return typed("Unigram", {{"vocab", std::move(pieces)}, {"unk_id", unknown_id}, {"byte_fallback", false}});
}

/// Merges that make every piece of a vocabulary out of two others, as transformers finds them: by the piece's id, then
/// the parts' lengths.
json merges_of(const std::vector<std::string>& pieces, const std::map<std::string, int64_t>& ids) {
  struct Merge {
    int64_t piece;
    size_t left_length, right_length;
    int64_t left_id, right_id;
    std::string left, right;
  };
  std::vector<Merge> found;
  for (const std::string& piece : pieces) {
    const size_t first = found.size();
    for (size_t at = piece.empty() ? 0 : utf8_length(piece[0]); at < piece.size(); at += utf8_length(piece[at])) {
      const std::string left = piece.substr(0, at), right = piece.substr(at);
      const auto a = ids.find(left), b = ids.find(right);
      if (a != ids.end() && b != ids.end())
        found.push_back({ids.at(piece), utf8_count(left), utf8_count(right), a->second, b->second, left, right});
    }
    std::stable_sort(found.begin() + static_cast<std::ptrdiff_t>(first), found.end(),
                     [](const Merge& a, const Merge& b) {
                       return std::tie(a.left_id, a.right_id) < std::tie(b.left_id, b.right_id);
                     });
  }
  std::stable_sort(found.begin(), found.end(), [](const Merge& a, const Merge& b) {
    return std::tie(a.piece, a.left_length, a.right_length) < std::tie(b.piece, b.left_length, b.right_length);
  });
  json out = json::array();
  for (const Merge& one : found) out.push_back({one.left, one.right});
  return out;
}

json bpe_of_sentencepiece(const SentencePieceFile& model, const json& unknown, bool byte_fallback) {
  std::map<std::string, int64_t> ids;
  std::vector<std::string> order;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    if (!ids.contains(model.pieces[i].text)) order.push_back(model.pieces[i].text);
    ids[model.pieces[i].text] = static_cast<int64_t>(i);
  }
  json merges = merges_of(order, ids);
  return typed("BPE", {{"vocab", ids},
                       {"merges", std::move(merges)},
                       {"unk_token", unknown},
                       {"fuse_unk", true},
                       {"byte_fallback", byte_fallback}});
}

/// vocab.json and merges.txt.
json bpe_of_files(Making& made) {
  const auto vocabulary = read_json(made.files, "vocab.json");
  const auto lines = made.files("merges.txt");
  check(vocabulary && lines, made.file, ": a vocabulary of byte-pair encoding is vocab.json and merges.txt; ",
        vocabulary ? "merges.txt" : "vocab.json", " is missing");
  json merges = json::array();
  for (size_t begin = 0, number = 1; begin < lines->size(); ++number) {
    const size_t end = std::min(lines->find('\n', begin), lines->size());
    std::string line = lines->substr(begin, end - begin);
    if (line.ends_with('\r')) line.pop_back();
    begin = end + 1;
    if (line.starts_with("#version")) continue;
    const size_t space = line.find(' ');
    check(space != std::string::npos && line.find(' ', space + 1) == std::string::npos, "merges.txt, line ", number,
          ": '", line, "' is no merge; expected two pieces with a space between them");
    check_utf8(line, cat("merges.txt, line ", number));
    merges.push_back({line.substr(0, space), line.substr(space + 1)});
  }
  return typed("BPE", {{"vocab", vocabulary->root}, {"merges", std::move(merges)}, {"fuse_unk", false}});
}

/// vocab.txt: a piece a line, its line number the id.
json wordpiece_of_file(Making& made, const std::string& unknown) {
  const std::string content = made.files("vocab.txt").value_or("");
  check_utf8(content, "vocab.txt");
  check(!content.empty(), "vocab.txt is empty; expected a piece a line");
  json vocabulary = json::object();
  int64_t number = 0;
  for (size_t begin = 0; begin < content.size(); ++number) {
    const size_t end = std::min(content.find('\n', begin), content.size());
    size_t last = end;
    while (last > begin && is_space(utf8_at(content, utf8_before(content, last)))) last = utf8_before(content, last);
    vocabulary[content.substr(begin, last - begin)] = number;
    begin = end + 1;
  }
  return typed("WordPiece", {{"vocab", std::move(vocabulary)},
                             {"unk_token", unknown},
                             {"continuing_subword_prefix", "##"},
                             {"max_input_chars_per_word", 100}});
}

/// Control pieces and those that the model's maker defined are tokens of their own.
Tokens own_tokens(const SentencePieceFile& model) {
  Tokens out;
  for (const SentencePiece& piece : model.pieces)
    if (piece.type == SentencePiece::control || piece.type == SentencePiece::user_defined)
      out.push_back({-1, piece.text, piece.type == SentencePiece::control, false, false, false, false});
  return out;
}
Tokens with_texts(Tokens tokens, const std::vector<std::string>& texts) {
  for (const std::string& text : texts) tokens.push_back({-1, text, true, false, false, false, false});
  return tokens;
}

const json kTakesSpace = {{"special", true}, {"normalized", false}, {"lstrip", true}};

// One function per class; the defaults are those of transformers.

void make_bert(Making& made) {
  const std::string unknown = made.token("unk_token", "[UNK]"), sep = made.token("sep_token", "[SEP]"),
                    cls = made.token("cls_token", "[CLS]");
  made.token("pad_token", "[PAD]");
  made.token("mask_token", "[MASK]");
  json rules = {{"clean_text", true},
                {"handle_chinese_chars", made.setting("tokenize_chinese_chars", true)},
                {"lowercase", made.setting("do_lower_case", true)}};
  rules["strip_accents"] = made.config.has("strip_accents") ? json(made.setting("strip_accents", false)) : json();
  made.root["normalizer"] = typed("BertNormalizer", rules);
  made.root["pre_tokenizer"] = typed("BertPreTokenizer");
  made.root["decoder"] = typed("WordPiece", {{"prefix", "##"}, {"cleanup", true}});
  made.root["post_processor"] = bert_layout(cls, sep);
  made.root["model"] = wordpiece_of_file(made, unknown);
}

void make_mpnet(Making& made) {
  for (const auto& [key, text] : {std::pair{"bos_token", "<s>"},
                                  {"eos_token", "</s>"},
                                  {"sep_token", "</s>"},
                                  {"cls_token", "<s>"},
                                  {"unk_token", "[UNK]"},
                                  {"pad_token", "<pad>"}})
    made.token(key, text);
  made.token("mask_token", "<mask>", kTakesSpace);
  make_bert(made);
  made.root["post_processor"] = roberta_layout(made.config.token("cls_token", ""), made.config.token("sep_token", ""));
}

void add_sentencepiece_parts(Making& made, json normalizer, json splitter, const std::string& scheme) {
  made.root["normalizer"] = std::move(normalizer);
  made.root["pre_tokenizer"] = std::move(splitter);
  made.root["decoder"] = metaspace(scheme);
  made.more_tokens(own_tokens(*made.sentencepiece));
}

/// Quotes, accents and capitals of ALBERT and XLNet.
json quotes_and_accents(const Making& made, bool keep_accents, bool lower) {
  json list = json::array({replace("String", "``", "\""), replace("String", "''", "\"")});
  if (!keep_accents) {
    list.push_back(typed("NFKD"));
    list.push_back(typed("StripAccents"));
  }
  if (lower) list.push_back(typed("Lowercase"));
  if (!made.sentencepiece->charsmap.empty()) list.push_back(precompiled(*made.sentencepiece));
  return sequence("normalizers", std::move(list));
}
json charsmap_alone(const Making& made) {
  return made.sentencepiece->charsmap.empty() ? json() : precompiled(*made.sentencepiece);
}
json charsmap_and_spaces(const Making& made) {
  json list = json::array();
  if (!made.sentencepiece->charsmap.empty()) list.push_back(precompiled(*made.sentencepiece));
  list.push_back(replace("Regex", " {2,}", " "));
  return sequence("normalizers", std::move(list));
}

void make_albert(Making& made) {
  for (const auto& [key, text] : {std::pair{"bos_token", "[CLS]"},
                                  {"eos_token", "[SEP]"},
                                  {"unk_token", "<unk>"},
                                  {"sep_token", "[SEP]"},
                                  {"pad_token", "<pad>"},
                                  {"cls_token", "[CLS]"},
                                  {"mask_token", "[MASK]"}})
    made.token(key, text);
  const std::string scheme = made.setting("add_prefix_space", true) ? "always" : "never";
  add_sentencepiece_parts(
      made, quotes_and_accents(made, made.setting("keep_accents", false), made.setting("do_lower_case", true)),
      after_white_space(scheme), scheme);
  made.root["post_processor"] = bert_layout(made.config.token("cls_token", ""), made.config.token("sep_token", ""));
  made.root["model"] = unigram(unigram_pieces(*made.sentencepiece), 1);
}

void make_xlnet(Making& made) {
  for (const auto& [key, text] : {std::pair{"bos_token", "<s>"},
                                  {"eos_token", "</s>"},
                                  {"unk_token", "<unk>"},
                                  {"sep_token", "<sep>"},
                                  {"pad_token", "<pad>"},
                                  {"cls_token", "<cls>"}})
    made.token(key, text);
  made.token("mask_token", "<mask>", kTakesSpace);
  add_sentencepiece_parts(made, quotes_and_accents(made, false, made.setting("do_lower_case", false)),
                          after_white_space("always"), "always");
  const std::string sep = made.config.token("sep_token", ""), cls = made.config.token("cls_token", "");
  made.root["post_processor"] =
      template_processing({{"$A", 0}, {sep, 0}, {cls, 2}}, {{"$A", 0}, {sep, 0}, {"$B", 1}, {sep, 1}, {cls, 2}});
  made.root["model"] = unigram(unigram_pieces(*made.sentencepiece), made.sentencepiece->unknown_id);
}

/// <s> <pad> </s> <unk> of the classes that fairseq has trained.
void name_fairseq_tokens(Making& made) {
  for (const auto& [key, text] : {std::pair{"bos_token", "<s>"},
                                  {"eos_token", "</s>"},
                                  {"sep_token", "</s>"},
                                  {"cls_token", "<s>"},
                                  {"unk_token", "<unk>"},
                                  {"pad_token", "<pad>"}})
    made.token(key, text);
}
void append_pieces(json& pieces, const SentencePieceFile& model, size_t from) {
  for (json& one : unigram_pieces(model, from)) pieces.push_back(std::move(one));
}
/// Their numbering: four named pieces, the model's from `from` on, then others.
json fairseq_pieces(const Making& made, const char* first, size_t from) {
  json out = json::array();
  for (const char* key : {first, "pad_token", "eos_token", "unk_token"})
    out.push_back({made.config.token(key, ""), 0.0});
  append_pieces(out, *made.sentencepiece, from);
  return out;
}

void make_xlm_roberta(Making& made) {
  name_fairseq_tokens(made);
  made.token("mask_token", "<mask>");
  const std::string scheme = made.setting("add_prefix_space", true) ? "always" : "never";
  add_sentencepiece_parts(made, charsmap_alone(made), after_white_space(scheme), scheme);
  made.root["post_processor"] = roberta_layout(made.config.token("bos_token", ""), made.config.token("eos_token", ""));
  json pieces = fairseq_pieces(made, "bos_token", 3);
  pieces.push_back({made.config.token("mask_token", ""), 0.0});
  made.root["model"] = unigram(std::move(pieces), 3);
}

void make_camembert(Making& made) {
  name_fairseq_tokens(made);
  made.token("mask_token", "<mask>", kTakesSpace);
  const std::string scheme = made.setting("add_prefix_space", true) ? "always" : "never";
  add_sentencepiece_parts(made, charsmap_alone(made), after_white_space(scheme), scheme);
  made.root["post_processor"] = roberta_layout(made.config.token("bos_token", ""), made.config.token("eos_token", ""));
  const std::string pad = made.config.token("pad_token", ""), unknown = made.config.token("unk_token", "");
  json pieces =
      json::array({{"<s>NOTUSED", 0.0}, {pad, 0.0}, {"</s>NOTUSED", 0.0}, {unknown, 0.0}, {"<unk>NOTUSED", -100.0}});
  append_pieces(pieces, *made.sentencepiece, 1);
  pieces.push_back({made.config.token("mask_token", ""), 0.0});
  made.root["model"] = unigram(std::move(pieces), 3);
}

void make_mbart(Making& made, const std::vector<std::string>& languages, const char* first, json normalizer,
                json splitter) {
  name_fairseq_tokens(made);
  made.token("mask_token", "<mask>", kTakesSpace);
  const Tokens own = own_tokens(*made.sentencepiece);
  // mBART's codes stand before the model's own tokens, mBART-50's behind them.
  if (std::string_view(first) == "bos_token") {
    Tokens tokens = with_texts({}, languages);
    tokens.insert(tokens.end(), own.begin(), own.end());
    made.more_tokens(tokens);
  } else {
    made.more_tokens(with_texts(own, languages));
  }
  add_sentencepiece_parts(made, std::move(normalizer), std::move(splitter), "always");
  json pieces = fairseq_pieces(made, first, 3);
  for (const std::string& language : languages) pieces.push_back({language, 0.0});
  pieces.push_back({made.config.token("mask_token", ""), 0.0});
  made.root["model"] = unigram(std::move(pieces), 3);
}
void make_mbart25(Making& made) {
  make_mbart(made, words_of(kMbartLanguages), "bos_token", nullptr, after_white_space("always"));
}
void make_mbart50(Making& made) {
  make_mbart(made, words_of(std::string(kMbartLanguages) + kMbart50Languages), "cls_token", charsmap_and_spaces(made),
             metaspace("always"));
}

void make_nllb(Making& made) {
  name_fairseq_tokens(made);
  made.token("mask_token", "<mask>", {{"special", true}, {"normalized", true}, {"lstrip", true}});
  add_sentencepiece_parts(made, made.sentencepiece->charsmap.empty() ? json() : charsmap_and_spaces(made),
                          metaspace("always"), "always");
  json model = bpe_of_sentencepiece(*made.sentencepiece, made.config.token("unk_token", ""), false);
  // Numbered anew: <s> <pad> </s> <unk>, then the model's other pieces.
  json ids = json::object();
  for (const char* key : {"bos_token", "pad_token", "eos_token", "unk_token"})
    if (!ids.contains(made.config.token(key, ""))) ids[made.config.token(key, "")] = ids.size();
  for (const SentencePiece& piece : made.sentencepiece->pieces)
    if (!ids.contains(piece.text)) ids[piece.text] = ids.size();
  model["vocab"] = std::move(ids);
  made.root["model"] = std::move(model);
}

void make_deberta_v2(Making& made) {
  for (const auto& [key, text] : {std::pair{"bos_token", "[CLS]"},
                                  {"eos_token", "[SEP]"},
                                  {"unk_token", "[UNK]"},
                                  {"sep_token", "[SEP]"},
                                  {"pad_token", "[PAD]"},
                                  {"cls_token", "[CLS]"},
                                  {"mask_token", "[MASK]"}})
    made.token(key, text);
  json rules = json::array();
  if (made.setting("do_lower_case", false)) rules.push_back(typed("Lowercase"));
  for (json one : {replace("Regex", R"(\s{2,}|[\n\r\t])", " "), typed("NFC"),
                   typed("Strip", {{"strip_left", false}, {"strip_right", true}})})
    rules.push_back(std::move(one));
  const std::string scheme = made.setting("add_prefix_space", true) ? "always" : "first";
  json splitters = json::array();
  if (made.setting("split_by_punct", false)) splitters.push_back(typed("Punctuation", {{"behavior", "Isolated"}}));
  splitters.push_back(metaspace(scheme));
  add_sentencepiece_parts(made, sequence("normalizers", std::move(rules)),
                          sequence("pretokenizers", std::move(splitters)), scheme);
  made.root["post_processor"] = bert_layout(made.config.token("cls_token", ""), made.config.token("sep_token", ""));
  const auto& pieces = made.sentencepiece->pieces;
  const std::string unknown = made.config.token("unk_token", "");
  const auto found = std::find_if(pieces.begin(), pieces.end(),
                                  [&](const SentencePiece& one) { return one.text == unknown && one.score == 0; });
  made.root["model"] = unigram(unigram_pieces(*made.sentencepiece),
                               found == pieces.end() ? made.sentencepiece->unknown_id : found - pieces.begin());
}

void make_t5(Making& made) {
  const std::string eos = made.token("eos_token", "</s>");
  made.token("unk_token", "<unk>");
  made.token("pad_token", "<pad>");
  const int64_t extra = made.setting<int64_t>("extra_ids", 100);
  check(extra >= 0 && extra <= 100000, made.config.name, ": extra_ids is ", extra, "; expected 0 to 100000");
  // The last of them comes first, and all are pieces of the model.
  std::vector<std::string> texts;
  json pieces = unigram_pieces(*made.sentencepiece);
  for (int64_t i = extra; i-- > 0;) {
    texts.push_back(cat("<extra_id_", i, ">"));
    pieces.push_back({texts.back(), 0.0});
  }
  made.more_tokens(with_texts(own_tokens(*made.sentencepiece), texts));
  add_sentencepiece_parts(made, charsmap_alone(made), after_white_space("always"), "always");
  made.root["post_processor"] =
      template_processing({{"$A", 0}, {"</s>", 0}}, {{"$A", 0}, {"</s>", 0}, {"$B", 0}, {"</s>", 0}});
  check(eos == "</s>", made.config.name, ": eos_token is '", eos, "'; T5's texts end with </s>");
  made.root["model"] = unigram(std::move(pieces), 2);
}

void make_pegasus(Making& made) {
  const std::string pad = made.token("pad_token", "<pad>"), eos = made.token("eos_token", "</s>"),
                    unknown = made.token("unk_token", "<unk>");
  // The numbering and the tokens disagree about the two masks' defaults in transformers.
  const std::string vocabulary_mask = made.config.token("mask_token", "<mask_1>"),
                    vocabulary_sent = made.config.token("mask_token_sent", "<mask_2>");
  made.token("mask_token", "<mask_2>");
  const std::string sent = made.config.token("mask_token_sent", "<mask_1>");
  const auto offset = made.setting<int64_t>("offset", 103);
  check(offset >= 0 && offset <= 100000, made.config.name, ": offset is ", offset, "; expected 0 to 100000");
  std::vector<std::string> texts;
  json pieces = json::array({{pad, 0.0}, {eos, 0.0}});
  if (!vocabulary_mask.empty()) pieces.push_back({vocabulary_mask, 0.0});
  if (!vocabulary_sent.empty() && vocabulary_sent != vocabulary_mask) pieces.push_back({vocabulary_sent, 0.0});
  if (!sent.empty()) texts.push_back(sent);
  for (int64_t i = 2; i < offset; ++i) {
    pieces.push_back({cat("<unk_", i, ">"), -100.0});
    texts.push_back(cat("<unk_", i, ">"));
  }
  append_pieces(pieces, *made.sentencepiece, 2);
  made.more_tokens(with_texts({}, texts));
  json rules =
      made.sentencepiece->charsmap.empty()
          ? sequence("normalizers", json::array({replace("Regex", R"(\n)", " "), replace("Regex", " {2,}", " ")}))
          : charsmap_and_spaces(made);
  add_sentencepiece_parts(made, std::move(rules), metaspace("always"), "always");
  made.root["post_processor"] = template_processing({{"$A", 0}, {eos, 0}}, {{"$A", 0}, {"$B", 0}, {eos, 0}});
  int64_t unknown_id = -1;
  for (size_t i = 1; i < pieces.size() && unknown_id < 0; ++i)
    if (pieces[i][0] == unknown && pieces[i][1] == 0.0) unknown_id = static_cast<int64_t>(i);
  check(unknown_id >= 0, made.file, ": has no '", unknown, "', the piece of what is unknown");
  made.root["model"] = unigram(std::move(pieces), unknown_id);
}

void make_llama(Making& made) {
  for (const auto& [key, text] : {std::pair{"unk_token", "<unk>"}, {"bos_token", "<s>"}, {"eos_token", "</s>"}})
    made.token(key, text);
  const bool prefix = made.setting("add_prefix_space", true);
  const std::string scheme = !prefix ? "never" : made.setting("legacy", false) ? "always" : "first";
  made.more_tokens(own_tokens(*made.sentencepiece));
  json decoders = json::array({replace("String", "\xE2\x96\x81", " "), typed("ByteFallback"), typed("Fuse")});
  if (prefix) decoders.push_back(typed("Strip", {{"content", " "}, {"start", 1}, {"stop", 0}}));
  made.root["pre_tokenizer"] = metaspace(scheme, false);
  made.root["decoder"] = sequence("decoders", std::move(decoders));
  made.root["model"] = bpe_of_sentencepiece(*made.sentencepiece, nullptr, true);
  add_switched_layout(made);
}

void make_gemma(Making& made) {
  for (const auto& [key, text] : {std::pair{"unk_token", "<unk>"},
                                  {"bos_token", "<bos>"},
                                  {"eos_token", "<eos>"},
                                  {"pad_token", "<pad>"},
                                  {"mask_token", "<mask>"}})
    made.token(key, text);
  made.more_tokens(own_tokens(*made.sentencepiece));
  made.root["normalizer"] = replace("String", " ", "\xE2\x96\x81");
  made.root["pre_tokenizer"] =
      typed("Split", {{"pattern", {{"String", " "}}}, {"behavior", "MergedWithPrevious"}, {"invert", false}});
  made.root["decoder"] =
      sequence("decoders", json::array({replace("String", "\xE2\x96\x81", " "), typed("ByteFallback"), typed("Fuse")}));
  made.root["model"] = bpe_of_sentencepiece(*made.sentencepiece, made.config.token("unk_token", ""), true);
  add_switched_layout(made);
}

void add_byte_level_parts(Making& made) {
  made.root["pre_tokenizer"] = byte_level(made.setting("add_prefix_space", false));
  made.root["decoder"] = byte_level(true);
  made.root["model"] = bpe_of_files(made);
}

void make_gpt2(Making& made) {
  for (const char* key : {"unk_token", "bos_token", "eos_token"}) made.token(key, "<|endoftext|>");
  add_byte_level_parts(made);
  add_switched_layout(made);
}

void make_gpt_neox(Making& made) {
  made.token("pad_token", "<|padding|>");
  make_gpt2(made);
  made.root["normalizer"] = typed("NFC");
}

void make_qwen2(Making& made) {
  made.token("bos_token", nullptr);
  for (const char* key : {"unk_token", "eos_token", "pad_token"}) made.token(key, "<|endoftext|>");
  add_byte_level_parts(made);
  made.root["normalizer"] = typed("NFC");
  const json split = typed(
      "Split",
      {{"behavior", "Isolated"},
       {"invert", false},
       {"pattern",
        {{"Regex",
          R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}}});
  made.root["pre_tokenizer"] =
      sequence("pretokenizers", json::array({split, byte_level(made.setting("add_prefix_space", false), false)}));
  add_switched_layout(made);
}

void make_roberta(Making& made) {
  name_fairseq_tokens(made);
  made.token("mask_token", "<mask>");
  add_byte_level_parts(made);
  made.root["post_processor"] = roberta_layout(made.config.token("cls_token", ""), made.config.token("sep_token", ""));
}

void make_deberta(Making& made) {
  for (const auto& [key, text] : {std::pair{"bos_token", "[CLS]"},
                                  {"eos_token", "[SEP]"},
                                  {"sep_token", "[SEP]"},
                                  {"cls_token", "[CLS]"},
                                  {"unk_token", "[UNK]"},
                                  {"pad_token", "[PAD]"},
                                  {"mask_token", "[MASK]"}})
    made.token(key, text);
  add_byte_level_parts(made);
  made.root["post_processor"] = roberta_layout(made.config.token("cls_token", ""), made.config.token("sep_token", ""));
}

/// Pieces that added_tokens_decoder gives another text under their id: published models hold places for tokens to come.
void rename_listed_pieces(Making& made) {
  const auto listed = made.config.root.find("added_tokens_decoder");
  if (listed == made.config.root.end() || !listed->is_object()) return;
  std::vector<SentencePiece>& pieces = made.sentencepiece->pieces;
  std::unordered_set<std::string> texts;
  for (const SentencePiece& one : pieces) texts.insert(one.text);
  for (const auto& [id, token] : listed->items()) {
    const auto at = static_cast<size_t>(std::strtoull(id.c_str(), nullptr, 10));
    const auto text = json_value<std::string>(token, "content", "", made.config.name);
    if (at < pieces.size() && texts.insert(text).second) pieces[at].text = text;
  }
}

/// A sentencepiece model under a class that says nothing of it: no blank in front, its own named tokens.
void make_general(Making& made) {
  const SentencePieceFile& model = *made.sentencepiece;
  const Tokens own = own_tokens(model);
  if (!model.unigram) rename_listed_pieces(made);
  for (const auto& [key, id, piece] : {std::tuple{"bos_token", model.bos_id, &model.bos_piece},
                                       {"eos_token", model.eos_id, &model.eos_piece},
                                       {"unk_token", model.unknown_id, &model.unknown_piece}})
    if (id >= 0) made.token(key, piece->c_str());
  made.more_tokens(own);
  json rules = json::array();
  if (!model.charsmap.empty()) rules.push_back(precompiled(model));
  rules.push_back(replace("String", " ", "\xE2\x96\x81"));
  made.root["normalizer"] = sequence("normalizers", std::move(rules));
  json decoders = json::array({replace("String", "\xE2\x96\x81", " ")});
  if (model.byte_fallback) {
    decoders.push_back(typed("ByteFallback"));
    decoders.push_back(typed("Fuse"));
  }
  made.root["decoder"] = sequence("decoders", std::move(decoders));
  if (model.unigram) {
    made.root["model"] = unigram(unigram_pieces(model), model.unknown_id);
    made.root["model"]["byte_fallback"] = model.byte_fallback;
  } else {
    made.root["model"] = bpe_of_sentencepiece(model, model.unknown_piece, model.byte_fallback);
  }
  add_switched_layout(made);
}

struct Class {
  const char* name;
  std::string_view file;  ///< of its vocabulary
  void (*make)(Making&);
};
constexpr std::string_view kBareModel = "tokenizer.model";
constexpr Class kGeneral{kGeneralTokenizer, kBareModel, make_general};
constexpr Class kClasses[] = {
    {"BertTokenizer", "vocab.txt", make_bert},
    {"ConvBertTokenizer", "vocab.txt", make_bert},
    {"DistilBertTokenizer", "vocab.txt", make_bert},
    {"ElectraTokenizer", "vocab.txt", make_bert},
    {"LayoutLMTokenizer", "vocab.txt", make_bert},
    {"LxmertTokenizer", "vocab.txt", make_bert},
    {"MobileBertTokenizer", "vocab.txt", make_bert},
    {"SqueezeBertTokenizer", "vocab.txt", make_bert},
    {"MPNetTokenizer", "vocab.txt", make_mpnet},
    {"BartTokenizer", "vocab.json", make_roberta},
    {"CodeGenTokenizer", "vocab.json", make_gpt2},
    {"DebertaTokenizer", "vocab.json", make_deberta},
    {"GPT2Tokenizer", "vocab.json", make_gpt2},
    {"GPTNeoXTokenizer", "vocab.json", make_gpt_neox},
    {"LEDTokenizer", "vocab.json", make_roberta},
    {"LongformerTokenizer", "vocab.json", make_roberta},
    {"Qwen2Tokenizer", "vocab.json", make_qwen2},
    {"RobertaTokenizer", "vocab.json", make_roberta},
    {"AlbertTokenizer", "spiece.model", make_albert},
    {"CamembertTokenizer", "sentencepiece.bpe.model", make_camembert},
    {"DebertaV2Tokenizer", "spm.model", make_deberta_v2},
    {"GemmaTokenizer", "tokenizer.model", make_gemma},
    {"LlamaTokenizer", "tokenizer.model", make_llama},
    {"MBart50Tokenizer", "sentencepiece.bpe.model", make_mbart50},
    {"MBartTokenizer", "sentencepiece.bpe.model", make_mbart25},
    {"MT5Tokenizer", "spiece.model", make_t5},
    {"NllbTokenizer", "sentencepiece.bpe.model", make_nllb},
    {"PegasusTokenizer", "spiece.model", make_pegasus},
    {"T5Tokenizer", "spiece.model", make_t5},
    {"XLMRobertaTokenizer", "sentencepiece.bpe.model", make_xlm_roberta},
    {"XLNetTokenizer", "spiece.model", make_xlnet},
};

/// Classes that hand the text to another program first.
const std::map<std::string, const char*> kOtherPrograms = {{"BertJapaneseTokenizer", "MeCab"},
                                                           {"CpmTokenizer", "jieba"},
                                                           {"CpmAntTokenizer", "jieba"},
                                                           {"HerbertTokenizer", "Moses"},
                                                           {"XLMTokenizer", "Moses"},
                                                           {"FlaubertTokenizer", "Moses"},
                                                           {"FSMTTokenizer", "Moses"},
                                                           {"BioGptTokenizer", "Moses"},
                                                           {"PhobertTokenizer", "a segmenter of Vietnamese"},
                                                           {"RoFormerTokenizer", "rjieba"},
                                                           {"JumanppTokenizer", "Juman++"},
                                                           {"MistralCommonBackend", "mistral_common"}};

const char* const kVocabularies[] = {"tokenizer.model", "spiece.model",        "sentencepiece.bpe.model",
                                     "spm.model",       "sentencepiece.model", "vocab.txt",
                                     "vocab.json"};

/// Vocabularies of other programs, which nothing here reads.
struct Foreign {
  const char* file;
  const char* what;
};
constexpr Foreign kForeign[] = {
    {"tekken.json", "a vocabulary of mistral_common"},
    {"tiktoken.model", "a vocabulary of tiktoken"},
    {"qwen.tiktoken", "a vocabulary of tiktoken"},
    {"hy.tiktoken", "a vocabulary of tiktoken"},
    {"cl100k_base.tiktoken", "a vocabulary of tiktoken"},
    {"o200k_base.tiktoken", "a vocabulary of tiktoken"},
    {"encoder.json",
     "a vocabulary under OpenAI's names (encoder.json, vocab.bpe; here they are called vocab.json, merges.txt)"},
    {"dict.txt", "a dictionary of fairseq"},
    {"bpe.codes", "a vocabulary of fastBPE"},
    {"tokenizer.bin", "a vocabulary of llama2.c"},
};
constexpr const char* kMakeTokenizerJson =
    "; transformers makes a tokenizer.json of it where it can: "
    "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)";

/// added_tokens.json {"token": id} as added_tokens_decoder has it.
void read_added_tokens_file(const TokenizerFiles& files, TokenizerConfig& config) {
  const auto listed = read_json(files, "added_tokens.json");
  if (!listed || config.has("added_tokens_decoder")) return;
  std::vector<std::string> special;
  for (const char* key : kNamedTokens) special.push_back(config.token(key, ""));
  // What special_tokens_map.json calls additional_special_tokens is not seen in time by transformers.
  const auto own = read_json(files, config.name);
  const std::pair<const char*, const json*> lists[] = {{"extra_special_tokens", &config.root},
                                                       {"additional_special_tokens", own ? &own->root : &config.root}};
  for (const auto& [key, root] : lists)
    if (root->contains(key) && !(*root)[key].is_null())
      for (const json& one : (*root)[key])
        special.push_back(one.is_string() ? one.get<std::string>()
                                          : json_value<std::string>(one, "content", "", config.name));
  json& out = config.root["added_tokens_decoder"] = json::object();
  for (const auto& [token, id] : listed->root.items()) {
    check(id.is_number_integer(), listed->name, ": the id of '", token, "' is ", shown(id),
          "; expected a whole number");
    const bool is_special = std::find(special.begin(), special.end(), token) != special.end();
    out[std::to_string(id.get<int64_t>())] = {{"content", token}, {"special", is_special}, {"normalized", !is_special}};
  }
}

/// The ids of the special tokens that a layout names.
void fill_layout_ids(Making& made) {
  json& processor = made.root["post_processor"];
  if (processor.is_null()) return;
  const auto model = read_token_model(made.root["model"], made.file);
  AddedVocabulary added(*model);
  add_configured_tokens(made.config, added);
  for (const char* key : {"single", "pair"})
    for (const json& place : processor[key]) {
      if (!place.contains("SpecialToken")) continue;
      const auto name = place["SpecialToken"]["id"].get<std::string>();
      const auto id = added.find(name);
      check(id.has_value(), made.file, " has no '", name, "', which stands around every text");
      processor["special_tokens"][name] = {{"id", name}, {"ids", {*id}}, {"tokens", {name}}};
    }
}

/// Lines of tiktoken's files are a piece in base64 and its rank.
bool looks_like_tiktoken(const std::string& content) {
  const std::string line = content.substr(0, std::min(content.find('\n'), content.size()));
  const size_t space = line.find(' ');
  const std::string rank = space == std::string::npos ? "" : line.substr(space + 1);
  return space > 0 && !rank.empty() && rank.find_first_not_of("0123456789\r") == std::string::npos &&
         line.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") == space;
}

std::unique_ptr<Tokenizer> finish(Making& made, const Class& one, const Languages& languages) {
  if (made.file.ends_with(".model")) {
    const std::string content = *made.files(made.file);
    check(!looks_like_tiktoken(content), made.file, ": is a vocabulary of tiktoken, which is not read",
          kMakeTokenizerJson);
    made.sentencepiece = SentencePieceFile::parse(made.file, content);
  }
  one.make(made);
  fill_layout_ids(made);
  return make_pipeline({made.file, std::move(made.root)}, made.config, languages);
}

/// The class with that name; nullptr for none that is known here.
const Class* class_named(const std::string& name) {
  if (name == kGeneralTokenizer) return &kGeneral;
  const auto found =
      std::find_if(std::begin(kClasses), std::end(kClasses), [&](const Class& one) { return name == one.name; });
  return found == std::end(kClasses) ? nullptr : found;
}

/// The class that reads the vocabulary `file`. Throws Error, naming the class, where none does.
const Class& class_for(const std::string& name, const std::string& file, const TokenizerConfig& config) {
  if (const auto program = kOtherPrograms.find(name); program != kOtherPrograms.end())
    fail(file, ": tokenizer_class '", name, "' in ", config.name, " needs ", program->second,
         ", another program, which is not supported");
  if (const Class* found = class_named(name)) return *found;
  std::vector<std::string> names;
  for (const Class& one : kClasses) names.emplace_back(one.name);
  names.emplace_back("MarianTokenizer");
  if (name.empty())
    fail(file, ": neither tokenizer_class in ", config.name,
         " nor model_type in config.json tells how these files are used; name the class, or ",
         "add tokenizer.json. Known: ", join(names));
  fail(file, ": tokenizer_class '", name, "' (of ", config.name,
       " or of the model's kind) is not supported without a tokenizer.json, which tells how; known: ", join(names));
}

}  // namespace

std::unique_ptr<Tokenizer> make_from_layout(const TokenizerFiles& files, TokenizerConfig config,
                                            const Languages& languages) {
  for (const Foreign& one : kForeign)
    check(!files(one.file), one.file, ": is ", one.what, ", which is not read", kMakeTokenizerJson);
  const bool says_nothing = config.tokenizer_class().empty();
  if (files("source.spm") && (config.tokenizer_class() == "MarianTokenizer" || says_nothing))
    return make_marian(files, config);
  std::vector<std::string> there;
  for (const char* one : kVocabularies)
    if (files(one)) there.emplace_back(one);
  if (there.empty()) return nullptr;
  const JsonFile model = read_json(files, "config.json").value_or(JsonFile{"config.json", json::object()});
  std::string name = reading_class(config, model);
  // vocab.txt was BERT's before files named classes.
  if (name.empty() && there.front() == "vocab.txt") name = "BertTokenizer";
  const Class& reader = class_for(name, there.front(), config);
  const bool by_model = !reader.file.ends_with(".txt") && !reader.file.ends_with(".json");
  // A bare tokenizer.model is read by every class of sentencepiece, before the name that is its own.
  const std::string file(by_model && there.front() == kBareModel ? kBareModel : reader.file);
  const std::string who =
      name != kGeneralTokenizer
          ? cat("tokenizer_class '", name, "'")
          : cat("what transformers takes for tokenizer_class '", config.tokenizer_class(), "' and model_type '",
                model.value<std::string>("model_type", ""), "', its general class,");
  check(std::find(there.begin(), there.end(), file) != there.end(), there.front(), ": ", who, " reads ", file,
        ", which is not there; found: ", join(there), ". Rename the file if it is this one, or add a tokenizer.json");
  read_added_tokens_file(files, config);
  Making made{files, config, file, std::nullopt};
  return finish(made, reader, languages);
}

std::vector<std::string> layout_file_names() {
  std::vector<std::string> out(std::begin(kVocabularies), std::end(kVocabularies));
  for (const char* further : {"merges.txt", "added_tokens.json", "source.spm", "target.spm", "target_vocab.json"})
    out.emplace_back(further);
  return out;
}

std::vector<std::string> foreign_file_names() {
  std::vector<std::string> out;
  for (const Foreign& one : kForeign) out.emplace_back(one.file);
  return out;
}

}  // namespace deeplora
