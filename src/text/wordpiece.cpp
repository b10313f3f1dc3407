#include "text/wordpiece.h"

#include <array>

#include "core/error.h"
#include "text/unicode.h"

namespace deeplora {
namespace {

using nlohmann::json;

/// The replacements of the tokenizers library's WordPiece decoder, in its order, on one piece.
void clean_piece(std::string& piece) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kReplacements{
      {{" .", "."},
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

/// clean_up_tokenization of transformers, on the whole text: the same without "do not".
void clean_whole_text(std::string& text) {
  for (const std::string_view from : {" .", " ?", " !", " ,"}) replace_all(text, from, from.substr(1));
  replace_all(text, " ' ", "'");
  for (const std::string_view from : {" n't", " 'm", " 's", " 've", " 're"})
    replace_all(text, from, from.substr(1));
}

Vocabulary read_vocab_txt(const std::string& content) {
  to_code_points(content, "vocab.txt");
  Vocabulary out;
  int64_t line = 0;
  for (size_t begin = 0; begin < content.size(); ++line) {
    size_t end = content.find('\n', begin);
    if (end == std::string::npos) end = content.size();
    std::string piece = content.substr(begin, end - begin);
    if (!piece.empty() && piece.back() == '\r') piece.pop_back();
    out.set(std::move(piece), line);
    begin = end + 1;
  }
  check(line > 0, "vocab.txt is empty; expected a piece a line");
  return out;
}

/// BERT's five special tokens, found in the text as they stand.
std::vector<AddedToken> named_special_tokens(const TokenizerConfig& config, Vocabulary& vocabulary) {
  std::vector<AddedToken> out;
  const std::pair<const char*, const char*> names[] = {{"pad_token", "[PAD]"},
                                                       {"unk_token", "[UNK]"},
                                                       {"cls_token", "[CLS]"},
                                                       {"sep_token", "[SEP]"},
                                                       {"mask_token", "[MASK]"}};
  for (const auto& [key, usual] : names) {
    const std::string content = config.token(key, usual);
    const auto id = vocabulary.find(content);
    if (!content.empty() && id) out.push_back({*id, content, true, false, false, false, false});
  }
  return out;
}

SequenceTemplate bert_layout(const TokenizerConfig& config, const Vocabulary& vocabulary) {
  const auto need = [&](const char* key, const char* usual) {
    const std::string token = config.token(key, usual);
    const auto id = vocabulary.find(token);
    check(id.has_value(), "vocab.txt has no '", token, "', which stands around every text (", key, ")");
    return *id;
  };
  const int64_t cls = need("cls_token", "[CLS]"), sep = need("sep_token", "[SEP]");
  return bert_template(cls, sep);
}

void read_decoder(const JsonFile& tokenizer, WordPieceOptions& options) {
  const std::string type = component_type(tokenizer.root, "decoder");
  if (type.empty()) {
    options.join_prefix = std::nullopt;
    options.clean_pieces = false;
    return;
  }
  check(type == "WordPiece", tokenizer.name, ": decoder '", type,
        "' is not supported for WordPiece; known: WordPiece");
  const json& decoder = tokenizer.root["decoder"];
  options.join_prefix = json_value<std::string>(decoder, "prefix", "##", tokenizer.name);
  options.clean_pieces = json_value<bool>(decoder, "cleanup", true, tokenizer.name);
}

}  // namespace

WordPieceTokenizer::WordPieceTokenizer(TokenizerParts parts, WordPieceOptions options)
    : PieceTokenizer(std::move(parts)), options_(std::move(options)) {
  const auto id = this->parts().vocabulary.find(options_.unknown);
  check(id.has_value(), "the vocabulary has no '", options_.unknown, "', the piece of unknown words");
  unknown_id_ = *id;
}

void WordPieceTokenizer::append_ids(std::u32string_view text, bool at_start,
                                    std::vector<int64_t>& ids) const {
  for (size_t i = 0; i < text.size();) {
    if (is_space(text[i])) {
      ++i;
      continue;
    }
    size_t end = i + 1;
    if (!is_punctuation(text[i]))
      while (end < text.size() && !is_space(text[end]) && !is_punctuation(text[end])) ++end;
    append_word(text.substr(i, end - i), ids);
    i = end;
  }
}

void WordPieceTokenizer::append_word(std::u32string_view word, std::vector<int64_t>& ids) const {
  if (static_cast<int64_t>(word.size()) > options_.longest_word) {
    ids.push_back(unknown_id_);
    return;
  }
  const size_t before = ids.size();
  for (size_t begin = 0; begin < word.size();) {
    std::string piece = begin > 0 ? options_.prefix : "";
    std::vector<size_t> ends;  // bytes of the piece after each code point
    for (size_t i = begin; i < word.size(); ++i) {
      append_utf8(piece, word[i]);
      ends.push_back(piece.size());
    }
    std::optional<int64_t> id;
    while (!ends.empty() && !(id = parts().vocabulary.find(std::string_view(piece).substr(0, ends.back()))))
      ends.pop_back();
    if (!id) {
      ids.resize(before);
      ids.push_back(unknown_id_);
      return;
    }
    ids.push_back(*id);
    begin += ends.size();
  }
}

std::string WordPieceTokenizer::join_pieces(const std::vector<int64_t>& ids) const {
  std::string out;
  for (size_t i = 0; i < ids.size(); ++i) {
    std::string piece = *parts().vocabulary.piece(ids[i]);
    if (i > 0) {
      if (options_.join_prefix && piece.starts_with(*options_.join_prefix))
        piece.erase(0, options_.join_prefix->size());
      else
        piece = std::string(1, ' ').append(piece);
    }
    if (options_.clean_pieces) clean_piece(piece);
    out += piece;
  }
  if (options_.clean_text) clean_whole_text(out);
  return out;
}

std::unique_ptr<Tokenizer> make_wordpiece(const JsonFile& tokenizer, const TokenizerConfig& config) {
  const std::string splitter = component_type(tokenizer.root, "pre_tokenizer");
  check(splitter == "BertPreTokenizer", tokenizer.name, ": pre_tokenizer '", splitter,
        "' is not supported for WordPiece; known: BertPreTokenizer");
  TokenizerParts parts;
  parts.vocabulary = read_vocabulary(tokenizer);
  std::vector<AddedToken> added = read_added_tokens(tokenizer, parts.vocabulary);
  const auto normalizer = tokenizer.root.find("normalizer");
  parts.added = AddedTokens(std::move(added), normalizer == tokenizer.root.end()
                                                  ? Normalizer()
                                                  : Normalizer::from_json(*normalizer, tokenizer.name));
  parts.layout = read_template(tokenizer);
  parts.layout.cut_left = config.cut_left();
  parts.special = find_special_ids(config, parts.vocabulary);
  WordPieceOptions options;
  const json& model = tokenizer.root["model"];
  options.prefix = json_value<std::string>(model, "continuing_subword_prefix", "##", tokenizer.name);
  options.unknown = json_value<std::string>(model, "unk_token", "[UNK]", tokenizer.name);
  options.longest_word = json_value<int64_t>(model, "max_input_chars_per_word", 100, tokenizer.name);
  check(options.longest_word >= 1 && options.longest_word <= 10000, tokenizer.name, ": model.max_input_chars_per_word is ", options.longest_word,
        "; expected 1 to 10000");
  options.clean_text = config.value<bool>("clean_up_tokenization_spaces", false);
  read_decoder(tokenizer, options);
  return std::make_unique<WordPieceTokenizer>(std::move(parts), std::move(options));
}

std::unique_ptr<Tokenizer> make_wordpiece(const std::string& vocab_txt, const TokenizerConfig& config) {
  TokenizerParts parts;
  parts.vocabulary = read_vocab_txt(vocab_txt);
  BertNormalizer normalizer;
  normalizer.lowercase = config.value<bool>("do_lower_case", true);
  normalizer.strip_accents = config.value<bool>("strip_accents", normalizer.lowercase);
  normalizer.handle_chinese_chars = config.value<bool>("tokenize_chinese_chars", true);
  parts.added = AddedTokens(named_special_tokens(config, parts.vocabulary), Normalizer(normalizer));
  parts.layout = bert_layout(config, parts.vocabulary);
  parts.layout.cut_left = config.cut_left();
  parts.special = find_special_ids(config, parts.vocabulary);
  WordPieceOptions options;
  options.unknown = config.token("unk_token", "[UNK]");
  options.clean_text = config.value<bool>("clean_up_tokenization_spaces", false);
  return std::make_unique<WordPieceTokenizer>(std::move(parts), std::move(options));
}

}  // namespace deeplora
