#include "compare/cell_files.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/errors.h"

namespace deeplora {
namespace {

using testing::error_of;

TEST(CellFilesTest, AResultIsReadByItsMetric) {
  const auto read = read_cell_result(
      "result.json",
      R"({"metric": "rmse", "higher_is_better": false, "best": {"rmse": 0.5, "step": 8}, "test": {"rmse": null},
                                                        "steps": 12, "seconds": 1.5})",
      "score");
  EXPECT_EQ(read.metric, "rmse");
  EXPECT_FALSE(read.higher_is_better);
  EXPECT_EQ(read.outcome.dev, 0.5);
  EXPECT_TRUE(std::isnan(read.outcome.test));
  EXPECT_EQ(read.outcome.best_step, 8);
  EXPECT_EQ(read.outcome.steps, 12);
  EXPECT_TRUE(std::isnan(read.outcome.peak_rss_mb));
}

TEST(CellFilesTest, AScoreKnowsItsSmallestStep) {
  EXPECT_EQ(
      read_cell_result("r", R"({"metric": "accuracy", "rows": {"train": 9, "test": 20}})", "score").outcome.test_step,
      0.05);
  EXPECT_EQ(read_cell_result("r", R"({"metric": "accuracy"})", "score").outcome.test_step, 0);
  EXPECT_EQ(score_step("pearson", 20), 0);
  EXPECT_EQ(score_step("loss", 20), 0);
  EXPECT_EQ(score_step("matthews", 20), 0.1);
  EXPECT_EQ(score_step("f1", 20), 0.05);
  EXPECT_EQ(score_step("rougeL", 20), 0.05);
  for (const char* metric : {"bleu", "chrf"}) EXPECT_EQ(score_step(metric, 20), 5) << metric;  // they go to 100
  EXPECT_EQ(score_step("a score of tomorrow", 20), 0.05);
}

TEST(CellFilesTest, ValuesOfAnotherTypeAreNamed) {
  const auto result = [](const char* text) { return error_of([&] { read_cell_result("result.json", text, "rmse"); }); };
  EXPECT_EQ(result("{}"), "no error");  // a run that scored nothing
  EXPECT_EQ(result(R"({"metric": 1})"), "result.json: metric: expected a text, found 1");
  EXPECT_EQ(result(R"({"best": 1})"), "result.json: best: expected an object, found 1");
  EXPECT_EQ(result(R"({"test": {"rmse": "low"}})"), "result.json: test: rmse: expected a number, found \"low\"");
  EXPECT_EQ(error_of([] { read_cell_message("diverged.json", R"({"message": []})"); }),
            "diverged.json: message: expected a text, found []");
  EXPECT_EQ(read_cell_message("diverged.json", R"({"message": "the loss is nan (rows a:1); lower"})"),
            "the loss is nan");
  const auto updates = [](const char* text) { return error_of([&] { read_cell_updates("updates.json", text, 1); }); };
  EXPECT_EQ(updates("{}"), "updates.json: expected a list, found object");
  EXPECT_EQ(updates("[5]"), "updates.json: entry 1: expected an object, found 5");
  EXPECT_EQ(updates(R"([{"path": "a", "role": "b", "shape": [1]}])"),
            "updates.json: entry 1: shape: expected two numbers, found [1]");
  EXPECT_EQ(updates(R"([{"path": "a", "role": "b", "shape": [1, 2], "numerical_rank": 1, "singular_values": [true]}])"),
            "updates.json: entry 1: singular_values: expected a number, found true");
}

}  // namespace
}  // namespace deeplora
