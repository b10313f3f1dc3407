// What the golden files do not show: errors, special ids, files that contradict each other.
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <cstring>

#include "core/error.h"
#include "tests/support/tokenizer_folder.h"
#include "text/unicode.h"

namespace deeplora {
namespace {

const std::string kVocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nworld\n##s\n,\n";
const char* const kModel =
    R"({"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": {"[UNK]": 0, "a": 1, "##b": 2, "<s>": 3, "</s>": 4}},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": {"type": "WordPiece"})";

std::string with(const std::string& rest) {
  return std::string(kModel) + rest + "}";
}

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
  const auto names = tokenizer_file_names();
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
  EXPECT_EQ(make_tokenizer(files_of({{"vocab.txt", windows}}))->tokenize("worlds"),
            (std::vector<int64_t>{6, 7}));
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
  EXPECT_CONTAINS(error_of({{"tokenizer.json", "[]"}}),
                  "tokenizer.json: expected a JSON object, found array");
  EXPECT_CONTAINS(error_of({{"tokenizer.json", "{}"}}), "tokenizer.json: has no \"model\"");
  EXPECT_CONTAINS(error_of({{"vocab.txt", ""}}), "vocab.txt is empty");
  EXPECT_CONTAINS(error_of({{"vocab.txt", "a\nb\n"}}), "vocab.txt has no '[CLS]'");
  EXPECT_CONTAINS(error_of({{"vocab.txt", "\xFF\n"}}), "vocab.txt is not valid UTF-8");
  EXPECT_CONTAINS(error_of({{"spiece.model", "not a model"}}), "spiece.model: not a sentencepiece model");
  EXPECT_CONTAINS(error_of({{"vocab.txt", kVocab}, {"tokenizer_config.json", R"({"do_lower_case": "yes"})"}}),
                  "tokenizer_config.json: do_lower_case: expected true or false, found \"yes\"");
  EXPECT_CONTAINS(
      error_of({{"vocab.txt", kVocab}, {"tokenizer_config.json", R"({"truncation_side": "top"})"}}),
      "truncation_side is 'top'; expected left or right");
}

TEST(TokenizerTest, ComponentsThatAreNotSupportedAreNamed) {
  EXPECT_CONTAINS(error_of({{"tokenizer.json", R"({"model": {"type": "Unigram", "vocab": []}})"}}), "model names no unknown token");
  EXPECT_CONTAINS(error_of({{"tokenizer.json", R"({"model": {"type": "Unigram", "vocab": [], "unk_id": 0}, "normalizer": {"type": "Lowercase"}})"}}),
                  "normalizer 'Lowercase' is not supported for Unigram");
  EXPECT_CONTAINS(error_of({{"tokenizer.json", R"({"model": {"type": "WordLevel", "vocab": {}}})"}}),
                  "type 'WordLevel'");
  EXPECT_CONTAINS(error_of({{"tokenizer.json", with(R"(, "normalizer": {"type": "NFKC"})")}}),
                  "normalizer 'NFKC' is not supported");
  EXPECT_CONTAINS(error_of({{"tokenizer.json", with(R"(, "post_processor": {"type": "Odd"})")}}),
                  "post_processor 'Odd' is not supported");
  EXPECT_CONTAINS(error_of({{"tokenizer.json", R"({"model": {"type": "WordPiece", "vocab": {"a": 0}}})"}}),
                  "pre_tokenizer '' is not supported for WordPiece");
  EXPECT_CONTAINS(
      error_of({{"tokenizer.json",
                 R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "end_of_word_suffix": "</w>"},
                             "decoder": {"type": "ByteLevel"}})"}}),
      "model.end_of_word_suffix is '</w>'");
  EXPECT_CONTAINS(
      error_of({{"tokenizer.json", R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]},
                             "decoder": {"type": "ByteLevel"}, "pre_tokenizer": {"type": "ByteLevel"}})"}}),
      "model.merges joins 'a' and 'b', but model.vocab lacks");
  EXPECT_CONTAINS(
      error_of(
          {{"tokenizer.json",
            R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "decoder": {"type": "ByteLevel"},
                             "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "x+"},
                             "behavior": "Isolated", "invert": false}, {"type": "ByteLevel"}]}})"}}),
      "\"Regex\":\"x+\"");
}

TEST(TokenizerTest, OddlyLaidOutFilesAreErrorsToo) {
  EXPECT_CONTAINS(
      error_of(
          {{"tokenizer.json",
            with(
                R"(, "post_processor": {"type": "BertProcessing", "sep": ["</s>", 4], "cls": ["<s>", 77]})")}}),
      "the layout of texts uses token 77, which the tokenizer does not have; its ids are 0 to 4");
  EXPECT_CONTAINS(
      error_of({{"tokenizer.json", with(R"(, "normalizer": {"type": "Sequence", "normalizers": [3]})")}}),
      "tokenizer.json: expected an object with type, found 3");
  EXPECT_CONTAINS(
      error_of(
          {{"tokenizer.json",
            with(
                R"(, "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}],
                             "special_tokens": {"<s>": {"ids": ["x"]}}})")}}),
      "post_processor.special_tokens.<s>.ids: expected a list of whole numbers, found [\"x\"]");
}

TEST(TokenizerTest, ALayoutPlacesEveryTextThatItIsGiven) {
  const auto of = [](const std::string& layouts) {
    return error_of({{"tokenizer.json", with(R"(, "post_processor": {"type": "TemplateProcessing", )" + layouts + "}")}});
  };
  const std::string a = R"({"Sequence": {"id": "A"}})", b = R"({"Sequence": {"id": "B"}})";
  EXPECT_CONTAINS(of("\"single\": [" + a + "," + b + "]"), "post_processor.single places a second text (B); expected A alone");
  EXPECT_CONTAINS(of("\"single\": []"), "post_processor.single places no text (A); expected A alone");
  EXPECT_CONTAINS(of("\"single\": [" + a + "], \"pair\": [" + a + "]"), "post_processor.pair places only one of the two texts; expected A and B");
  EXPECT_EQ(of("\"single\": [" + a + "]"), "no error");
  EXPECT_EQ(of("\"single\": [" + a + "], \"pair\": [" + a + "," + b + "]"), "no error");
}

TEST(TokenizerTest, FilesThatAskForTooMuchAreErrors) {
  const std::string deep = std::string(1000000, '[') + std::string(1000000, ']');
  EXPECT_CONTAINS(error_of({{"tokenizer.json", with(", \"normalizer\": " + deep)}}), "nests deeper than");
  EXPECT_CONTAINS(error_of({{"tokenizer.json", with(R"(, "added_tokens": [{"id": 16000000, "content": "x"}])")}}), "has the id 16000000");
  std::string wide = with("");
  wide.replace(wide.find("word\": 100"), 10, "word\": 1000000000");
  EXPECT_CONTAINS(error_of({{"tokenizer.json", wide}}), "max_input_chars_per_word");
  const char* bpe = R"({"model": {"type": "BPE", "unk_token": "a", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["ab"]}})";
  EXPECT_CONTAINS(error_of({{"tokenizer.json", bpe}}), "model.merges holds 'ab'");
}

TEST(TokenizerTest, ASentencepiecePieceWithANulIsAnError) {
  std::string model = golden("sentencepiece_t5/spiece.model");
  model += std::string("\x0A\x05\x0A\x03" "a\0b", 7);
  EXPECT_CONTAINS(error_of({{"spiece.model", model}}), "a piece holds a NUL");
}

/// A sentencepiece model with this table of character replacements, beside pieces of one byte each.
std::string model_with_charsmap(const std::string& map) {
  std::string model;
  const auto message = [&model](char field, const std::string& content) {
    model += static_cast<char>(field << 3 | 2);
    for (size_t size = content.size(); ; size >>= 7) {
      model += static_cast<char>(size > 127 ? (size & 127) | 128 : size);
      if (size <= 127) break;
    }
    model += content;
  };
  message(1, std::string("\x0A\x05<unk>\x18\x02", 9));
  message(1, "\x0A\x03<s>\x18\x03");
  message(1, "\x0A\x04</s>\x18\x03");
  message(1, "\x0A\x01" "a");
  std::string rules = "\x12";
  for (size_t size = map.size(); ; size >>= 7) {
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
  EXPECT_EQ(error_of({{"spiece.model", model_with_charsmap(table(1U << 10, 256, texts))}}), "no error");
  const std::pair<const char*, std::string> broken[] = {{"far child", table(0x3FFFFFU << 10, 256, texts)},
                                                        {"wide child", table(0x1000U << 10 | 1U << 9, 256, texts)},
                                                        {"half a block", table(1U << 10, 100, texts)},
                                                        {"no trie", table(0, 0, texts)},
                                                        {"text without an end", table(1U << 10, 256, "x")},
                                                        {"no text", table(1U << 10, 256, "")}};
  for (const auto& [what, map] : broken) {
    const std::string message = error_of({{"spiece.model", model_with_charsmap(map)}});
    EXPECT_NE(message.find("character replacements is broken"), std::string::npos) << what << ": " << message;
  }
  EXPECT_CONTAINS(error_of({{"spiece.model", std::string("\x0A\xFF\xFF\xFF\xFF\x0Fx", 7)}}), "sentencepiece model");
}

TEST(TokenizerTest, AByteWithoutATokenIsAnErrorNotASilentGap) {
  const auto tokenizer = make_tokenizer(
      files_of({{"tokenizer.json",
                 R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
                                       "decoder": {"type": "ByteLevel"}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}})"}}));
  EXPECT_EQ(tokenizer->tokenize("abba"), (std::vector<int64_t>{2, 1, 0}));
  EXPECT_THROW(tokenizer->tokenize("abc"), Error);
}

TEST(TokenizerTest, SentencepieceModelsWithAnotherNumberingOrLayoutAreRefused) {
  const std::string spm = golden("sentencepiece_t5/spiece.model");
  EXPECT_CONTAINS(error_of({{"spiece.model", spm},
                            {"tokenizer_config.json", R"({"tokenizer_class": "AlbertTokenizerFast"})"}}),
                  "tokenizer_class 'AlbertTokenizer'");
  EXPECT_CONTAINS(error_of({{"spiece.model", spm},
                            {"tokenizer.json",
                             R"({"model": {"type": "Unigram", "vocab": [["<s>", 0], ["<pad>", 0]]}})"}}),
                  "its piece 0 is not '<pad>' as in spiece.model");
  EXPECT_CONTAINS(error_of({{"spiece.model", spm}, {"tokenizer_config.json", R"({"add_bos_token": true})"}}),
                  "has no beginning-of-sequence token");
}

// Oracle: tokenization_t5.py, where <extra_id_0> is the last id, and the layout of pairs is A </s> B </s>.
TEST(TokenizerTest, T5IsRecognisedWithoutConfiguration) {
  const auto tokenizer =
      make_tokenizer(files_of({{"spiece.model", golden("sentencepiece_t5/spiece.model")}}));
  EXPECT_EQ(tokenizer->vocabulary_size(), 500);
  EXPECT_EQ(tokenizer->piece(499), "<extra_id_0>");
  EXPECT_EQ(tokenizer->special().eos, 1);
  EXPECT_EQ(tokenizer->special().pad, 0);
  const auto ids = tokenizer->encode("a <extra_id_99>", "", 0).ids;
  ASSERT_GE(ids.size(), 4u);
  EXPECT_EQ(std::vector<int64_t>(ids.end() - 3, ids.end()), (std::vector<int64_t>{400, 1, 1}));
}

}  // namespace
}  // namespace deeplora
