// Oracle: tests/golden/text_metrics.json, scores of sacrebleu and rouge-score
// (tests/golden/make/text_metrics.py).
#include "tasks/text_metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "core/files.h"

namespace deeplora {
namespace {

nlohmann::json golden() { return nlohmann::json::parse(read_file(DEEPLORA_TEST_DATA "/golden/text_metrics.json")); }

TEST(TextMetricsTest, CorpusScoresEqualSacrebleuAndRougeScore) {
  size_t cases = 0;
  const nlohmann::json corpora = golden()["corpora"];
  for (const auto& row : corpora) {
    const auto predicted = row["predicted"].get<std::vector<std::string>>();
    const auto references = row["references"].get<std::vector<std::vector<std::string>>>();
    const auto& scores = row["scores"];
    const auto name = row["name"].get<std::string>();
    EXPECT_NEAR(bleu(predicted, references), scores["bleu"].get<double>(), 1e-9) << name;
    EXPECT_NEAR(chrf(predicted, references), scores["chrf"].get<double>(), 1e-9) << name;
    const RougeScores got = rouge(predicted, references);
    EXPECT_NEAR(got.rouge1, scores["rouge1"].get<double>(), 1e-12) << name;
    EXPECT_NEAR(got.rouge2, scores["rouge2"].get<double>(), 1e-12) << name;
    EXPECT_NEAR(got.rouge_l, scores["rougeL"].get<double>(), 1e-12) << name;
    ++cases;
  }
  EXPECT_EQ(cases, 15u);
}

TEST(TextMetricsTest, TokensEqualSacrebleus13a) {
  const nlohmann::json tokens = golden()["tokens"];
  EXPECT_EQ(tokens.size(), 15u);
  for (const auto& pair : tokens) EXPECT_EQ(tokenize_13a(pair[0].get<std::string>()), pair[1].get<std::string>());
}

TEST(TextMetricsTest, BytesThatAreNotUtf8AreScoredAndDoNoHarm) {
  const std::vector<std::string> predicted = {"good words \xFF\xC3 and more of them"};
  const std::vector<std::vector<std::string>> references = {{"good words and more of them"}};
  EXPECT_GT(bleu(predicted, references), 0);
  EXPECT_LT(chrf(predicted, references), 100);
  EXPECT_DOUBLE_EQ(rouge(predicted, references).rouge1, 1);
}

TEST(TextMetricsTest, WithoutTextsScoresAreUndefined) {
  EXPECT_TRUE(std::isnan(bleu({}, {})));
  EXPECT_TRUE(std::isnan(chrf({}, {})));
  EXPECT_TRUE(std::isnan(rouge({}, {}).rouge_l));
}

TEST(TextMetricsTest, MissingReferencesAreRefused) {
  const std::vector<std::string> one = {"a"};
  const std::vector<std::vector<std::string>> none = {{}}, two = {{"a"}, {"b"}};
  EXPECT_THROW(bleu(one, none), std::invalid_argument);
  EXPECT_THROW(chrf(one, two), std::invalid_argument);
  EXPECT_THROW(rouge(one, none), std::invalid_argument);
}

}  // namespace
}  // namespace deeplora
