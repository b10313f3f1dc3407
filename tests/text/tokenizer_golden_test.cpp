// Every kind of tokenizer against the reference libraries, on the cases that tests/golden/make/tokenizer.py
// wrote.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/tokenizer_folder.h"

namespace deeplora {
namespace {

using nlohmann::json;

const std::filesystem::path kFolder = std::filesystem::path(DEEPLORA_TEST_DATA) / "golden/tokenizers";

std::vector<std::string> folders() {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder))
    out.push_back(entry.path().filename().string());
  std::sort(out.begin(), out.end());
  return out;
}

class TokenizerGoldenTest : public testing::TestWithParam<std::string> {};

void expect_case(const Tokenizer& tokenizer, const json& row) {
  const auto ids = row.at("ids").get<std::vector<int64_t>>();
  std::optional<std::string> pair;
  if (row.contains("pair")) pair = row["pair"].get<std::string>();
  const Encoding got = tokenizer.encode(row.at("text").get<std::string>(), pair, row.value("max_length", int64_t{0}));
  EXPECT_EQ(got.ids, ids) << row;
  EXPECT_EQ(got.type_ids, row.value("type_ids", std::vector<int64_t>(ids.size(), 0))) << row;
  EXPECT_EQ(got.truncated, row.value("truncated", false)) << row;
  const Encoding aligned = tokenizer.encode(row.at("text").get<std::string>(), pair,
                                            row.value("max_length", int64_t{0}), tokenizer.kind() != "marian");
  EXPECT_EQ(aligned.ids, ids) << row;
  EXPECT_EQ(aligned.offsets.size(), tokenizer.kind() != "marian" ? ids.size() : 0) << row;
  const auto decoded = row.at("decoded").get<std::string>();
  EXPECT_EQ(tokenizer.decode(ids, true), decoded) << row;
  EXPECT_EQ(tokenizer.decode(ids, false), row.value("decoded_all", decoded)) << row;
}

// Oracle: transformers for folders without tokenizer.json, tokenizers.Tokenizer for the others. The first line of each
// file names it and its version.
TEST_P(TokenizerGoldenTest, AgreesWithTheReference) {
  const auto tokenizer = make_tokenizer(files_in(kFolder / GetParam()));
  ASSERT_NE(tokenizer, nullptr);
  std::ifstream in(kFolder / GetParam() / "golden.jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(in, line));
  int cases = 0;
  for (; std::getline(in, line); ++cases) {
    const json row = json::parse(line);
    if (row.contains("target"))
      EXPECT_EQ(tokenizer->encode_target(row["target"].get<std::string>()).ids,
                row.at("ids").get<std::vector<int64_t>>())
          << row;
    else expect_case(*tokenizer, row);
  }
  EXPECT_GE(cases, 40);
}

INSTANTIATE_TEST_SUITE_P(Layouts, TokenizerGoldenTest, testing::ValuesIn(folders()),
                         [](const auto& one) { return one.param; });

}  // namespace
}  // namespace deeplora
