// What the golden files do not show: errors, special ids, files that contradict each other.
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <cstring>

#include "core/error.h"
#include "tests/support/tokenizer_folder.h"
#include "text/tokenizer_layouts.h"
#include "text/unicode.h"

namespace deeplora {
namespace {

const std::string kVocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nworld\n##s\n,\n";
const char* const kModel =
    R"({"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": {"[UNK]": 0, "a": 1, "##b": 2, "<s>": 3, "</s>": 4}},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": {"type": "WordPiece"})";

std::string with(const std::string& rest) { return std::string(kModel) + rest + "}"; }

std::string golden(const std::string& path) {
  return read_file(std::filesystem::path(DEEPLORA_TEST_DATA) / "golden/tokenizers" / path);
}

std::string error_of(const std::map<std::string, std::string>& files) {
  try {
    make_tokenizer(files_of(files));
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST(TokenizerTest, NoFilesGiveNoTokenizer) {
  EXPECT_EQ(make_tokenizer(files_of({})), nullptr);
  EXPECT_EQ(make_tokenizer(files_of({{"tokenizer_config.json", "{}"}})), nullptr);
}

TEST(TokenizerTest, EveryFileThatIsAskedForIsCarriedAlong) {
  auto names = tokenizer_file_names();
  for (auto& name : foreign_file_names()) names.push_back(std::move(name));
  make_tokenizer([&](const std::string& name) -> std::optional<std::string> {
    EXPECT_NE(std::find(names.begin(), names.end(), name), names.end()) << name;
    return std::nullopt;
  });
}

TEST(TokenizerTest, VocabTxtGivesIdsByLineAndTheSpecialTokens) {
  const auto tokenizer = make_tokenizer(files_of({{"vocab.txt", kVocab}}));
  EXPECT_EQ(tokenizer->tokenize("Hello, worlds"), (std::vector<int64_t>{5, 8, 6, 7}));
  const SpecialIds special = tokenizer->special();
  EXPECT_EQ(special.pad, 0);
  EXPECT_EQ(special.unk, 1);
  EXPECT_EQ(special.cls, 2);
  EXPECT_EQ(special.sep, 3);
  EXPECT_EQ(special.mask, 4);
  EXPECT_EQ(special.bos, -1);
  EXPECT_EQ(special.eos, -1);
  EXPECT_EQ(tokenizer->piece(7), "##s");
  EXPECT_THROW(tokenizer->piece(9), Error);
  EXPECT_THROW(tokenizer->piece(-1), Error);
  // Windows line ends are no part of the pieces.
  std::string windows = kVocab;
  replace_all(windows, "\n", "\r\n");
  EXPECT_EQ(make_tokenizer(files_of({{"vocab.txt", windows}}))->tokenize("worlds"), (std::vector<int64_t>{6, 7}));
}

TEST(TokenizerTest, TheConfigurationNamesOtherSpecialTokens) {
  const auto tokenizer =
      make_tokenizer(files_of({{"tokenizer.json", with("")},
                               {"tokenizer_config.json", R"({"cls_token": "<s>", "pad_token": null})"},
                               {"special_tokens_map.json", R"({"sep_token": {"content": "</s>"}})"}}));
  EXPECT_EQ(tokenizer->special().cls, 3);
  EXPECT_EQ(tokenizer->special().sep, 4);
  EXPECT_EQ(tokenizer->special().pad, -1);
  EXPECT_EQ(tokenizer->special().unk, 0);
}

TEST(TokenizerTest, TextThatIsNotUtf8AndLimitsWithoutRoomAreErrors) {
  const auto tokenizer = make_tokenizer(files_of({{"vocab.txt", kVocab}}));
  EXPECT_THROW(tokenizer->encode("a\xFF", std::nullopt, 0), Error);
  EXPECT_THROW(tokenizer->tokenize("\xED\xA0\x80"), Error);  // a surrogate
  EXPECT_EQ(tokenizer->encode("hello", std::nullopt, 2).ids, (std::vector<int64_t>{2, 3}));
  try {
    tokenizer->encode("hello", "world", 2);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_CONTAINS(std::string(e.what()),
                    "a maximum length of 2 tokens has no room for the 3 special tokens of a pair");
  }
  EXPECT_THROW(tokenizer->encode("hello", std::nullopt, -1), Error);
}

TEST(TokenizerTest, IdsWithoutAPieceAreLeftOutOfTheText) {
  const auto tokenizer = make_tokenizer(files_of({{"vocab.txt", kVocab}}));
  EXPECT_EQ(tokenizer->decode(std::vector<int64_t>{5, 1000, -100, 6}, false), "hello world");
}

TEST(TokenizerTest, BrokenFilesAreNamed) {
  EXPECT_CONTAINS(error_of({{"tokenizer.json", "{"}}), "tokenizer.json: not valid JSON");
  EXPECT_CONTAINS(error_of({{"tokenizer.json", "[]"}}), "tokenizer.json: expected a JSON object, found array");
  EXPECT_CONTAINS(error_of({{"tokenizer.json", "{}"}}), "tokenizer.json: has no \"model\"");
  EXPECT_CONTAINS(error_of({{"vocab.txt", ""}}), "vocab.txt is empty");
  EXPECT_CONTAINS(
      error_of({{"spiece.model", "\x0A\x02"}, {"tokenizer_config.json", R"({"tokenizer_class": "T5Tokenizer"})"}}),
      "not a whole sentencepiece model");
  EXPECT_CONTAINS(error_of({{"vocab.txt", "\xFF\n"}}), "vocab.txt is not valid UTF-8");
  EXPECT_CONTAINS(error_of({{"spiece.model", ""}, {"tokenizer_config.json", R"({"tokenizer_class": "T5Tokenizer"})"}}),
                  "spiece.model: not a sentencepiece model");
  EXPECT_CONTAINS(error_of({{"vocab.txt", kVocab}, {"tokenizer_config.json", R"({"do_lower_case": "yes"})"}}),
                  "tokenizer_config.json: do_lower_case: expected true or false, found \"yes\"");
  EXPECT_CONTAINS(error_of({{"vocab.txt", kVocab}, {"tokenizer_config.json", R"({"truncation_side": "top"})"}}),
                  "truncation_side is 'top'; expected left or right");
}

TEST(TokenizerTest, WhatIsNotKnownIsNamed) {
  const auto of = [](const std::string& rest) { return error_of({{"tokenizer.json", with(", " + rest)}}); };
  EXPECT_CONTAINS(of(R"("normalizer": {"type": "Odd"})"),
                  "tokenizer.json: normalizer 'Odd' is not supported; known: BertNormalizer");
  EXPECT_CONTAINS(of(R"("normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Odd"}]})"),
                  "normalizer.normalizers[1] 'Odd'");
  EXPECT_CONTAINS(of(R"("normalizer": {"type": "NFC", "depth": 3})"),
                  "normalizer NFC: 'depth' is not supported; known: no key at all");
  EXPECT_CONTAINS(of(R"("pre_tokenizer": {"type": "Odd"})"), "pre_tokenizer 'Odd' is not supported");
  EXPECT_CONTAINS(of(R"("pre_tokenizer": {"type": "Digits", "each": true})"),
                  "pre_tokenizer Digits: 'each' is not supported; known: individual_digits");
  EXPECT_CONTAINS(
      of(R"("pre_tokenizer": {"type": "Split", "pattern": {"String": "a"}, "behavior": "Odd", "invert": false})"),
      "behavior 'Odd'");
  EXPECT_CONTAINS(of(R"("decoder": {"type": "Odd"})"), "decoder 'Odd' is not supported");
  EXPECT_CONTAINS(of(R"("post_processor": {"type": "Odd"})"), "post_processor 'Odd' is not supported");
  EXPECT_CONTAINS(error_of({{"tokenizer.json", R"({"model": {"type": "Odd", "vocab": {"a": 0}}})"}}),
                  "model 'Odd' is not supported; known: BPE, Unigram");
  EXPECT_CONTAINS(
      error_of({{"tokenizer.json", R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.1}})"}}),
      "model.dropout is 0.1");
  EXPECT_CONTAINS(error_of({{"tokenizer.json", R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}})"}}),
                  "model.merges joins 'a' and 'b', but tokenizer.json: model.vocab lacks");
  EXPECT_CONTAINS(error_of({{"tokenizer.json", R"({"model": {"type": "Unigram", "vocab": [["a", 0]], "unk_id": 7}})"}}),
                  "model.unk_id is 7; expected 0 to 0");
}

TEST(TokenizerTest, ExpressionsThatAreNotKnownExactlyAreNamed) {
  const auto of = [](const std::string& expression) {
    return error_of({{"tokenizer.json", with(R"(, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": ")" +
                                             expression + R"("}, "behavior": "Isolated", "invert": false})")}});
  };
  EXPECT_CONTAINS(of("(a"), "pre_tokenizer Split: '(a' is no regular expression");
  EXPECT_CONTAINS(of(R"(\\p{Emoji})"), "names the set of characters 'Emoji', which is not supported");
  EXPECT_CONTAINS(of(R"([[:graph:]])"), "names the set of characters 'graph', which is not supported");
  EXPECT_CONTAINS(of(R"((?i:\\p{Lu}))"), R"(uses \p{Lu} where case is ignored)");
  EXPECT_EQ(of(R"((?i:the)\\p{Lu}[\\p{^L}\\d])"), "no error");
}

TEST(TokenizerTest, AnExpressionThatGoesBackForEverIsAnError) {
  const auto tokenizer = make_tokenizer(files_of(
      {{"tokenizer.json",
        with(
            R"(, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(?:a|aa)+[bc]"}, "behavior": "Isolated", "invert": false})")}}));
  try {
    tokenizer->tokenize(std::string(64, 'a'));
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_CONTAINS(std::string(e.what()), "pre_tokenizer Split: the expression gives up on a text of 64 bytes");
  }
}

TEST(TokenizerTest, OddlyLaidOutFilesAreErrorsToo) {
  EXPECT_CONTAINS(
      error_of({{"tokenizer.json",
                 with(R"(, "post_processor": {"type": "BertProcessing", "sep": ["</s>", 4], "cls": ["<s>", 77]})")}}),
      "the layout of texts uses token 77, which the tokenizer does not have; its ids are 0 to 4");
  EXPECT_CONTAINS(error_of({{"tokenizer.json", with(R"(, "normalizer": {"type": "Sequence", "normalizers": [3]})")}}),
                  "tokenizer.json: normalizer.normalizers[0]: expected an object with type, found 3");
  EXPECT_CONTAINS(
      error_of({{"tokenizer.json",
                 with(
                     R"(, "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}],
                             "special_tokens": {"<s>": {"ids": ["x"]}}})")}}),
      "post_processor TemplateProcessing.special_tokens.<s>.ids: expected a list of whole numbers, found [\"x\"]");
}

TEST(TokenizerTest, ALayoutPlacesEveryTextThatItIsGiven) {
  const auto of = [](const std::string& layouts) {
    return error_of(
        {{"tokenizer.json", with(R"(, "post_processor": {"type": "TemplateProcessing", )" + layouts + "}")}});
  };
  const std::string a = R"({"Sequence": {"id": "A"}})", b = R"({"Sequence": {"id": "B"}})";
  EXPECT_CONTAINS(of("\"single\": [" + a + "," + b + "]"),
                  "post_processor TemplateProcessing.single places a second text (B); expected A alone");
  EXPECT_CONTAINS(of("\"single\": []"),
                  "post_processor TemplateProcessing.single places no text (A); expected A alone");
  EXPECT_CONTAINS(of("\"single\": [" + a + "], \"pair\": [" + a + "]"),
                  "post_processor TemplateProcessing.pair places only one of the two texts; expected A and B");
  EXPECT_EQ(of("\"single\": [" + a + "]"), "no error");
  EXPECT_EQ(of("\"single\": [" + a + "], \"pair\": [" + a + "," + b + "]"), "no error");
}

TEST(TokenizerTest, FilesThatAskForTooMuchAreErrors) {
  const std::string deep = std::string(1000000, '[') + std::string(1000000, ']');
  EXPECT_CONTAINS(error_of({{"tokenizer.json", with(", \"normalizer\": " + deep)}}), "nests deeper than");
  EXPECT_CONTAINS(error_of({{"tokenizer.json", with(R"(, "added_tokens": [{"id": 16000000, "content": "x"}])")}}),
                  "has the id 16000000");
  std::string wide = with("");
  wide.replace(wide.find("word\": 100"), 10, "word\": 1000000000");
  EXPECT_CONTAINS(error_of({{"tokenizer.json", wide}}), "max_input_chars_per_word");
  const char* bpe =
      R"({"model": {"type": "BPE", "unk_token": "a", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["ab"]}})";
  EXPECT_CONTAINS(error_of({{"tokenizer.json", bpe}}), R"(model.merges holds "ab")");
}

/// A sentencepiece model with this table of character replacements, beside pieces of one byte each.
std::string model_with_charsmap(const std::string& map) {
  std::string model;
  const auto message = [&model](char field, const std::string& content) {
    model += static_cast<char>(field << 3 | 2);
    for (size_t size = content.size();; size >>= 7) {
      model += static_cast<char>(size > 127 ? (size & 127) | 128 : size);
      if (size <= 127) break;
    }
    model += content;
  };
  message(1, std::string("\x0A\x05<unk>\x18\x02", 9));
  message(1, "\x0A\x03<s>\x18\x03");
  message(1, "\x0A\x04</s>\x18\x03");
  message(1,
          "\x0A\x01"
          "a");
  std::string rules = "\x12";
  for (size_t size = map.size();; size >>= 7) {
    rules += static_cast<char>(size > 127 ? (size & 127) | 128 : size);
    if (size <= 127) break;
  }
  message(3, rules + map);
  return model;
}

TEST(TokenizerTest, ASentencepieceTableThatPointsOutsideItselfIsAnError) {
  const auto table = [](uint32_t root, size_t units, const std::string& texts) {
    std::string map(4 + 4 * units, '\0');
    const auto size = static_cast<uint32_t>(4 * units);
    std::memcpy(map.data(), &size, 4);
    if (units > 0) std::memcpy(map.data() + 4, &root, 4);
    return map + texts;
  };
  const std::string texts("x\0", 2);
  const auto error = [&](const std::string& map) {
    return error_of({{"spiece.model", model_with_charsmap(map)},
                     {"tokenizer_config.json", R"({"tokenizer_class": "T5Tokenizer"})"}});
  };
  EXPECT_EQ(error(table(1U << 10, 256, texts)), "no error");
  const std::pair<const char*, std::string> broken[] = {{"no trie", table(0, 0, texts)},
                                                        {"text without an end", table(1U << 10, 256, "x")},
                                                        {"no text", table(1U << 10, 256, "")}};
  for (const auto& [what, map] : broken) {
    const std::string message = error(map);
    EXPECT_NE(message.find("character replacements is broken"), std::string::npos) << what << ": " << message;
  }
  // A table that points outside itself replaces nothing there.
  for (const std::string& map : {table(0x3FFFFFU << 10, 256, texts), table(0x1000U << 10 | 1U << 9, 256, texts)}) {
    const auto tokenizer =
        make_tokenizer(files_of({{"spiece.model", model_with_charsmap(map)},
                                 {"tokenizer_config.json", R"({"tokenizer_class": "T5Tokenizer"})"}}));
    EXPECT_NO_THROW(tokenizer->encode("a \xEF\xAC\x81", std::nullopt, 0));
  }
}

// As the library: BPE leaves out what it has no token for when it has no unknown token either.
TEST(TokenizerTest, BpeWithoutUnknownTokenLeavesOutWhatItDoesNotKnow) {
  const auto tokenizer = make_tokenizer(
      files_of({{"tokenizer.json",
                 R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
                                       "decoder": {"type": "ByteLevel"}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}})"}}));
  EXPECT_EQ(tokenizer->tokenize("abba"), (std::vector<int64_t>{2, 1, 0}));
  EXPECT_EQ(tokenizer->tokenize("acb"), (std::vector<int64_t>{2}));
}

TEST(TokenizerTest, WhatNeedsAnUnknownTokenIsAnErrorWhereThereIsNone) {
  const auto words = make_tokenizer(
      files_of({{"tokenizer.json", R"({"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "<unk>"}})"}}));
  EXPECT_EQ(words->tokenize("a"), (std::vector<int64_t>{0}));
  EXPECT_THROW(words->tokenize("b"), Error);
  const auto pieces =
      make_tokenizer(files_of({{"tokenizer.json", R"({"model": {"type": "Unigram", "vocab": [["a", 0]]}})"}}));
  EXPECT_EQ(pieces->tokenize("aa"), (std::vector<int64_t>{0, 0}));
  EXPECT_THROW(pieces->tokenize("ab"), Error);
}

TEST(TokenizerTest, AddedTokensThatNormalisationMakesTheSameAreAnError) {
  const auto of = [](const std::string& tokens) {
    return error_of({{"tokenizer.json", with(R"(, "normalizer": {"type": "Lowercase"}, "added_tokens": )" + tokens)}});
  };
  EXPECT_CONTAINS(of(R"([{"id": 5, "content": "AB"}, {"id": 6, "content": "ab"}])"),
                  "added tokens 'AB' and 'ab' are the same after normalisation");
  EXPECT_EQ(of(R"([{"id": 5, "content": "AB"}, {"id": 6, "content": "ab", "normalized": false}])"), "no error");
}

TEST(TokenizerTest, VocabulariesOfOtherProgramsAreNamed) {
  EXPECT_CONTAINS(
      error_of({{"tekken.json", "{}"}}),
      "tekken.json: is a vocabulary of mistral_common, which is not read; transformers makes a tokenizer.json");
  EXPECT_CONTAINS(error_of({{"tiktoken.model", "x"}, {"tokenizer.model", "x"}}),
                  "tiktoken.model: is a vocabulary of tiktoken");
  EXPECT_CONTAINS(error_of({{"tokenizer.model", "IQ== 0\nIg== 1\n"},
                            {"tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer"})"}}),
                  "tokenizer.model: is a vocabulary of tiktoken");
  EXPECT_EQ(error_of({{"tekken.json", "{}"}, {"tokenizer.json", with("")}}), "no error");
}

// Oracle: AutoTokenizer of transformers; tests/python/test_tokenizer_folders.py draws many more.
TEST(TokenizerTest, TheKindOfModelDecidesWhichClassReadsABareModel) {
  const auto first = [](const std::string& config, const std::string& model) {
    return make_tokenizer(files_of({{"tokenizer.model", golden("sentencepiece_llama/tokenizer.model")},
                                    {"tokenizer_config.json", config},
                                    {"config.json", model}}))
        ->piece(make_tokenizer(files_of({{"tokenizer.model", golden("sentencepiece_llama/tokenizer.model")},
                                         {"tokenizer_config.json", config},
                                         {"config.json", model}}))
                    ->tokenize("a man")
                    .front());
  };
  const std::string llama = R"({"tokenizer_class": "LlamaTokenizerFast"})";
  EXPECT_TRUE(first(llama, R"({"model_type": "llama"})").starts_with("\xE2\x96\x81"));
  EXPECT_TRUE(first(llama, "{}").starts_with("\xE2\x96\x81"));
  EXPECT_EQ(first(llama, R"({"model_type": "mistral"})"), "a");  // the general class, which puts no blank in front
  EXPECT_EQ(first("{}", R"({"model_type": "mixtral"})"), "a");
  EXPECT_CONTAINS(error_of({{"spiece.model", "x"}, {"tokenizer_config.json", llama}}),
                  "tokenizer_class 'LlamaTokenizer' reads tokenizer.model, which is not there");
  EXPECT_CONTAINS(error_of({{"vocab.txt", kVocab}, {"config.json", R"({"model_type": "funnel"})"}}),
                  "tokenizer_class 'FunnelTokenizer'");
  EXPECT_CONTAINS(error_of({{"tokenizer.model", "x"},
                            {"tokenizer_config.json",
                             R"({"auto_map": {"AutoTokenizer": ["a.B", null]}, "tokenizer_class": "BTokenizer"})"}}),
                  "code of the model's own");
}

TEST(TokenizerTest, ClassesThatNeedAnotherProgramOrAreNotKnownAreNamed) {
  EXPECT_CONTAINS(
      error_of({{"vocab.txt", kVocab}, {"tokenizer_config.json", R"({"tokenizer_class": "BertJapaneseTokenizer"})"}}),
      "'BertJapaneseTokenizer' in tokenizer_config.json needs MeCab");
  EXPECT_CONTAINS(
      error_of({{"spiece.model", "x"}, {"tokenizer_config.json", R"({"tokenizer_class": "CpmTokenizer"})"}}),
      "needs jieba");
  EXPECT_CONTAINS(
      error_of({{"vocab.txt", kVocab}, {"tokenizer_config.json", R"({"tokenizer_class": "OddTokenizerFast"})"}}),
      "for tokenizer_class 'OddTokenizer' and model_type '', its general class, reads tokenizer.model, which is not "
      "there; found: vocab.txt");
  EXPECT_CONTAINS(
      error_of({{"spiece.model", "x"}, {"tokenizer_config.json", R"({"tokenizer_class": "XGLMTokenizer"})"}}),
      "tokenizer_class 'XGLMTokenizer'");
  EXPECT_CONTAINS(error_of({{"spiece.model", golden("sentencepiece_t5/spiece.model")}}),
                  "tells how these files are used; name the class");
  EXPECT_CONTAINS(
      error_of({{"vocab.json", "{}"}, {"tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer"})"}}),
      "merges.txt is missing");
}

TEST(TokenizerTest, LanguagesAreForTokenizersThatKnowThem) {
  const std::map<std::string, std::string> t5 = {
      {"spiece.model", golden("sentencepiece_t5/spiece.model")},
      {"tokenizer_config.json", golden("sentencepiece_t5/tokenizer_config.json")}};
  EXPECT_THROW(make_tokenizer(files_of(t5), {"en", "de"}), Error);
  std::map<std::string, std::string> mbart = {
      {"sentencepiece.bpe.model", golden("layout_mbart50/sentencepiece.bpe.model")},
      {"tokenizer_config.json", R"({"tokenizer_class": "MBart50Tokenizer"})"}};
  EXPECT_THROW(make_tokenizer(files_of(mbart), {"xx_XX", ""}), Error);
  EXPECT_THROW(make_tokenizer(files_of(mbart))->encode_target("a"), Error);  // no target language anywhere
  const auto tokenizer = make_tokenizer(files_of(mbart), {"fr_XX", "de_DE"});
  EXPECT_EQ(tokenizer->piece(tokenizer->encode("a", std::nullopt, 0).ids[0]), "fr_XX");
  EXPECT_EQ(tokenizer->piece(tokenizer->encode_target("a").ids[0]), "de_DE");
}

// Oracle: the library's own offsets of "caf\u00e9 x" and of tokens behind a normaliser that removes characters.
TEST(TokenizerTest, OffsetsPointIntoTheOriginalText) {
  const auto tokenizer = make_tokenizer(files_of({{"vocab.txt", kVocab}}));
  const Encoding one = tokenizer->encode("  H\u00e9llo\u0301, worlds", std::nullopt, 0, true);
  EXPECT_EQ(one.ids, (std::vector<int64_t>{2, 5, 8, 6, 7, 3}));
  EXPECT_EQ(one.offsets, (std::vector<TokenOffsets>{{0, 0}, {2, 7}, {8, 9}, {10, 15}, {15, 16}, {0, 0}}));
}

}  // namespace
}  // namespace deeplora
