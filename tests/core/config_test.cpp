#include "core/config.h"

#include <gtest/gtest.h>

namespace deeplora {
namespace {

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(ConfigTest, FileOverDefaultAndOverrideOverFile) {
  Config config = Config::parse("train: {lr: 0.1, steps: 5}\n", "a.yaml");
  config.set("train.lr=1e-3");
  double lr = 1;
  int64_t steps = 1, batch = 16;
  const Config train = config.section("train");
  train.read("lr", lr, "");
  train.read("steps", steps, "");
  train.read("batch_size", batch, "");
  config.finish();
  EXPECT_DOUBLE_EQ(lr, 1e-3);
  EXPECT_EQ(steps, 5);
  EXPECT_EQ(batch, 16);
}

TEST(ConfigTest, DumpReadsBackToTheSameValues) {
  Config config = Config::parse("a: {list: [x, '3'], b: {deep: yes}}\n", "a.yaml");
  const auto read = [](const Config& c) {
    std::vector<std::string> list;
    bool deep = false;
    double pi = 3.141592653589793;
    std::optional<int64_t> none;
    c.section("a").read("list", list, "");
    c.section("a").section("b").read("deep", deep, "");
    c.read("pi", pi, "");
    c.read("none", none, "");
    c.finish();
    return std::make_tuple(list, deep, pi, none);
  };
  const auto first = read(config);
  EXPECT_EQ(read(Config::parse(config.dump(), "dump")), first);
  EXPECT_EQ(std::get<0>(first), (std::vector<std::string>{"x", "3"}));
}

TEST(ConfigTest, UnknownKeyNamesFileLineAndNearestKey) {
  Config config = Config::parse("train:\n  steps: 3\n  learning_rat: 3\n", "a.yaml");
  double lr = 0;
  int64_t steps = 0;
  const Config train = config.section("train");
  train.read("steps", steps, "");
  train.read("learning_rate", lr, "");
  const std::string message = message_of([&] { config.finish(); });
  EXPECT_NE(message.find("a.yaml:3: train.learning_rat: unknown key"), std::string::npos) << message;
  EXPECT_NE(message.find("did you mean 'learning_rate'"), std::string::npos) << message;
}

TEST(ConfigTest, AllMistakesAreReportedAtOnce) {
  Config config = Config::parse("a: text\nb: [1, x]\n", "a.yaml");
  config.set("c=maybe");
  int64_t a = 0;
  std::vector<int64_t> b;
  std::string c = "yes";
  config.read("a", a, "");
  config.read("b", b, "");
  config.read_choice("c", c, {"yes", "no"}, "");
  const std::string message = message_of([&] { config.finish(); });
  EXPECT_NE(message.find("a.yaml:1: a: expected a whole number, found text"), std::string::npos) << message;
  EXPECT_NE(message.find("a.yaml:2: b: expected a list (each a whole number), found [1, x]"), std::string::npos) << message;
  EXPECT_NE(message.find("--set c: expected one of yes, no, found 'maybe'"), std::string::npos) << message;
}

TEST(ConfigTest, BrokenYamlAndBrokenUtf8AreErrorsWithTheLine) {
  EXPECT_NE(message_of([] { Config::parse("a: 1\nb: [1\n", "a.yaml"); }).find("a.yaml:"), std::string::npos);
  EXPECT_NE(message_of([] { Config::parse("a: \xff\n", "a.yaml"); }).find("UTF-8"), std::string::npos);
  EXPECT_NE(message_of([] { Config::parse("- 1\n- 2\n", "a.yaml"); }).find("found a list"), std::string::npos);
}

}  // namespace
}  // namespace deeplora
