// Every kind of tokenizer against the reference libraries, on the cases that tests/golden/make/tokenizer.py
// wrote.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/tokenizer_folder.h"

namespace deeplora {
namespace {

using nlohmann::json;

struct Golden {
  const char* folder;
  const char* kind;
  int64_t vocabulary_size;
};
std::ostream& operator<<(std::ostream& out, const Golden& golden) {
  return out << golden.folder;
}

class TokenizerGoldenTest : public testing::TestWithParam<Golden> {
 protected:
  std::filesystem::path folder() const {
    return std::filesystem::path(DEEPLORA_TEST_DATA) / "golden/tokenizers" / GetParam().folder;
  }
};

void expect_case(const Tokenizer& tokenizer, const json& row) {
  const auto ids = row.at("ids").get<std::vector<int64_t>>();
  std::optional<std::string> pair;
  if (row.contains("pair")) pair = row["pair"].get<std::string>();
  const Encoding got =
      tokenizer.encode(row.at("text").get<std::string>(), pair, row.value("max_length", int64_t{0}));
  EXPECT_EQ(got.ids, ids) << row;
  EXPECT_EQ(got.type_ids, row.value("type_ids", std::vector<int64_t>(ids.size(), 0))) << row;
  EXPECT_EQ(got.truncated, row.value("truncated", false)) << row;
  const auto decoded = row.at("decoded").get<std::string>();
  EXPECT_EQ(tokenizer.decode(ids, true), decoded) << row;
  EXPECT_EQ(tokenizer.decode(ids, false), row.value("decoded_all", decoded)) << row;
}

// Oracle: BertTokenizerFast, T5Tokenizer, LlamaTokenizer, tokenizers.Tokenizer; sentencepiece for "raw"
// cases. The first line of each file names the one used and its version.
TEST_P(TokenizerGoldenTest, AgreesWithTheReference) {
  const auto tokenizer = make_tokenizer(files_in(folder()));
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->kind(), GetParam().kind);
  EXPECT_EQ(tokenizer->vocabulary_size(), GetParam().vocabulary_size);
  std::ifstream in(folder() / "golden.jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(in, line));
  int cases = 0;
  for (; std::getline(in, line); ++cases) {
    const json row = json::parse(line);
    if (row.contains("raw"))
      EXPECT_EQ(tokenizer->tokenize(row["raw"].get<std::string>()), row.at("ids").get<std::vector<int64_t>>())
          << row;
    else
      expect_case(*tokenizer, row);
  }
  EXPECT_GE(cases, 50);
}

INSTANTIATE_TEST_SUITE_P(Kinds, TokenizerGoldenTest,
                         testing::Values(Golden{"wordpiece_uncased", "wordpiece", 1500},
                                         Golden{"wordpiece_cased", "wordpiece", 1436},
                                         Golden{"wordpiece_mpnet", "wordpiece", 1001},
                                         Golden{"sentencepiece_t5", "sentencepiece", 420},
                                         Golden{"sentencepiece_llama", "sentencepiece", 600},
                                         Golden{"byte_bpe_gpt2", "byte-bpe", 421},
                                         Golden{"byte_bpe_roberta", "byte-bpe", 421},
                                         Golden{"byte_bpe_smollm", "byte-bpe", 421},
                                         Golden{"byte_bpe_qwen2", "byte-bpe", 421},
                                         Golden{"byte_bpe_llama3", "byte-bpe", 421}));

}  // namespace
}  // namespace deeplora
