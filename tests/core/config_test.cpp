#include "core/config.h"

#include <gtest/gtest.h>

#include "support/errors.h"

namespace deeplora {
namespace {

using testing::error_of;

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
  const std::string message = error_of([&] { config.finish(); });
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
  const std::string message = error_of([&] { config.finish(); });
  EXPECT_NE(message.find("a.yaml:1: a: expected a whole number, found text"), std::string::npos) << message;
  EXPECT_NE(message.find("a.yaml:2: b: expected a list (each a whole number), found [1, x]"), std::string::npos) << message;
  EXPECT_NE(message.find("--set c: expected one of yes, no, found 'maybe'"), std::string::npos) << message;
}

TEST(ConfigTest, BrokenYamlAndBrokenUtf8AreErrorsWithTheLine) {
  EXPECT_NE(error_of([] { Config::parse("a: 1\nb: [1\n", "a.yaml"); }).find("a.yaml:"), std::string::npos);
  EXPECT_NE(error_of([] { Config::parse("a: \xff\n", "a.yaml"); }).find("UTF-8"), std::string::npos);
  EXPECT_NE(error_of([] { Config::parse("- 1\n- 2\n", "a.yaml"); }).find("found a list"), std::string::npos);
}

const char* kList = "base: {rank: 4}\nruns:\n  - {name: a, base: {rank: 8, odd: 1}}\n  - {name: b}\n";

TEST(ConfigTest, ValuesWithoutAnEndAndKeysThatAreNoTextAreErrors) {
  const auto reading = [](const std::string& yaml) { return error_of([&] { Config::parse(yaml, "a.yaml"); }); };
  EXPECT_NE(reading("a: &x [1, *x]\n").find("an anchor holds itself"), std::string::npos);
  std::string bomb = "a0: &a0 [1, 1]\n";
  for (int i = 1; i < 40; ++i) bomb += cat("a", i, ": &a", i, " [*a", i - 1, ", *a", i - 1, "]\n");
  EXPECT_NE(reading(bomb).find("more than 100000 values"), std::string::npos);
  EXPECT_NE(reading("a: " + std::string(300, '[') + std::string(300, ']')).find("nest deeper"), std::string::npos);
  EXPECT_NE(reading("b: 1\n? [a]\n: 1\n").find("a key is no text"), std::string::npos);
  EXPECT_NE(reading("b: 1\nc: 2\nb: 3\n").find("a.yaml:3: the key 'b' is given twice"), std::string::npos);
  Config config = Config::parse("whole: 1\n");
  EXPECT_NE(error_of([&] { config.set("a=&x [*x]"); }).find("holds itself"), std::string::npos);
}

TEST(ConfigTest, NumbersBeyondWholeOnesAreNoWholeNumbers) {
  for (const char* number : {"1e300", "-1e19", ".inf", ".nan", "0.5"}) {
    const Config config = Config::parse(cat("whole: ", number, "\n"), "a.yaml");
    int64_t whole = 0;
    config.read("whole", whole, "");
    EXPECT_NE(error_of([&] { config.finish(); }).find("expected a whole number"), std::string::npos) << number;
  }
}

TEST(ConfigTest, ListsOfMappingsAreReadStrictlyAndDumpedAsLists) {
  Config config = Config::parse(kList, "a.yaml");
  config.set("runs.1.name=c");
  std::vector<std::string> names;
  for (const Config& item : config.items("runs")) {
    names.emplace_back();
    item.read("name", names.back(), "");
    item.ignore("base");
  }
  config.ignore("base");
  config.finish();
  EXPECT_EQ(names, (std::vector<std::string>{"a", "c"}));
  EXPECT_EQ(config.dump(), "runs:\n  - name: a\n  - name: c\n");
  EXPECT_NE(config.dump_all().find("rank: 8"), std::string::npos) << config.dump_all();
  EXPECT_EQ(Config::parse(config.dump_all()).dump_all(), config.dump_all());

  const Config strict = Config::parse("runs:\n  - {name: a}\n  - {nam: b}\n", "a.yaml");
  std::string name;
  for (const Config& item : strict.items("runs")) item.read("name", name, "");
  EXPECT_NE(error_of([&] { strict.finish(); }).find("a.yaml:3: runs.1.nam: unknown key (did you mean 'name'?)"), std::string::npos);
  EXPECT_NE(error_of([&] { config.set("runs.2.name=x"); }).find("there is no item 2"), std::string::npos);
}

TEST(ConfigTest, SettingsAreThePathsAndValuesOfWhatWasDumped) {
  using Settings = std::vector<std::pair<std::string, std::string>>;
  const Config config = Config::parse("train:\n  lr: 1.0e-3\nadapter:\n  targets:\n    - 're:a: [b]'\n    - q\ncompare:\n  methods:\n    - {name: LoRA}\n    - {name: x}\n");
  double lr = 0, unset = 7;
  std::vector<std::string> targets;
  config.section("train").read("lr", lr, "");
  config.section("train").read("unset", unset, "");
  config.section("adapter").read("targets", targets, "");
  std::string name;
  for (const Config& method : config.section("compare").items("methods")) method.read("name", name, "");
  EXPECT_EQ(settings_of(config.dump()), (Settings{{"train.lr", "0.001"},
                                                  {"train.unset", "7"},
                                                  {"adapter.targets", "[\"re:a: [b]\", q]"},
                                                  {"compare.methods.0.name", "LoRA"},
                                                  {"compare.methods.1.name", "x"}}));
  EXPECT_EQ(settings_of("a:\nb: ~\nc: []\n"), (Settings{{"c", "[]"}}));
  EXPECT_THROW(settings_of("- a\n"), Error);
}

TEST(ConfigTest, AnOverlaidCopyKeepsLinesAndLeavesTheOriginalAlone) {
  Config config = Config::parse(kList, "a.yaml");
  config.set("base.extra=1");
  Config copy = config.copy();
  copy.overlay("runs.0.base", "base");
  copy.erase("runs");
  copy.set_from("base.rank=-1", "runs.ranks");
  int64_t rank = 0, extra = 0;
  copy.section("base").read("rank", rank, "");
  copy.section("base").read("extra", extra, "");
  copy.section("base").require(rank > 0, "rank", "a rank of at least 1");
  EXPECT_EQ(extra, 1);
  const std::string message = error_of([&] { copy.finish(); });
  EXPECT_NE(message.find("a.yaml: runs.ranks: expected a rank of at least 1, found -1"), std::string::npos) << message;
  EXPECT_NE(message.find("runs.0.base.odd: unknown key"), std::string::npos) << message;
  int64_t untouched = 0;
  config.section("base").read("rank", untouched, "");
  EXPECT_EQ(untouched, 4);
  EXPECT_TRUE(config.has("runs"));
}

}  // namespace
}  // namespace deeplora
