#include "train/checkpoint_numbers.h"

#include <gtest/gtest.h>

#include "core/fingerprint.h"
#include "support/errors.h"

namespace deeplora {
namespace {

using testing::error_of;

using Json = nlohmann::ordered_json;

Json content() {
  CheckpointNumbers numbers;
  numbers.state.step = 12;
  numbers.state.last = StepScores{8, {.values = {{"pearson", 0.5}}}};
  numbers.identity = {{"train.lr", 0.001}};
  numbers.movement = {{"a", "0123456789abcdef"}};
  numbers.files = {{"state.pt", "0123456789abcdef"}};
  return Json::parse(numbers.text())["content"];
}

/// The error of a file with this content and a checksum that is right.
std::string error(const Json& content) {
  const Json whole = {{"content", content}, {"checksum", fingerprint(content.dump())}};
  return error_of([&] { CheckpointNumbers::parse("state.json", whole.dump()); });
}

TEST(CheckpointNumbersTest, TheyReadBackAsWritten) {
  const Json whole = {{"content", content()}, {"checksum", fingerprint(content().dump())}};
  EXPECT_EQ(Json::parse(CheckpointNumbers::parse("state.json", whole.dump()).text()), whole);
}

TEST(CheckpointNumbersTest, ValuesOfAnotherTypeAreNamedThoughTheChecksumIsRight) {
  struct Case {
    const char *place, *value, *message;
  };
  // Oracle: the messages, written down by hand.
  const Case cases[] = {
      {"/state/step", R"("7")", "state.json: content: state: step: expected a whole number, found \"7\""},
      {"/state/step", "-1", "state.json: content: state: step: expected a count, found -1"},
      {"/state/samples", "1e300", "state.json: content: state: samples: expected a whole number, found 1e+300"},
      {"/state/metrics_bytes", "-1", "state.json: content: state: metrics_bytes: expected a whole number, found -1"},
      {"/state/evaluation_due", "0", "state.json: content: state: evaluation_due: expected true or false, found 0"},
      {"/state/last_loss", R"("low")", "state.json: content: state: last_loss: expected a number, found \"low\""},
      {"/state/last", "[]", "state.json: content: state: last: expected an object, found []"},
      {"/state/last/scores", "[1]",
       "state.json: content: state: last: scores: expected pairs of name and value, found 1"},
      {"/state/last/scores", "[]", "state.json: content: state: last: scores: expected at least one score, found none"},
      {"/state/last/scores/0/1", "true", "state.json: content: state: last: scores: expected a number, found true"},
      {"/state", "3", "state.json: content: state: step is missing"},
      {"/identity", "[1]", "state.json: content: identity: expected an object, found [1]"},
      {"/movement", R"({"a": 1})", "state.json: content: movement: expected an object of texts, found {\"a\":1}"},
      {"/files", "[]", "state.json: content: files: expected an object of texts, found []"},
      {"/version", R"("1")", "state.json: content: version: expected a whole number, found \"1\""},
  };
  for (const Case& c : cases) {
    Json changed = content();
    changed[Json::json_pointer(c.place)] = Json::parse(c.value);
    EXPECT_EQ(error(changed), c.message);
  }
  Json lacking = content();
  lacking["state"].erase("epoch");
  EXPECT_EQ(error(lacking), "state.json: content: state: epoch is missing");
  EXPECT_EQ(error_of([] { CheckpointNumbers::parse("state.json", R"({"content": {}, "checksum": "0"})"); }),
            "state.json is damaged: its checksum is wrong");
}

}  // namespace
}  // namespace deeplora
