#include "core/config.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

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
  EXPECT_NE(message.find("a.yaml:2: b: expected a list (each a whole number), found [1, x]"), std::string::npos)
      << message;
  EXPECT_NE(message.find("--set c: expected one of yes, no, found 'maybe'"), std::string::npos) << message;
}

TEST(ConfigTest, BrokenYamlAndBrokenUtf8AreErrorsWithTheLine) {
  EXPECT_NE(error_of([] { Config::parse("a: 1\nb: [1\n", "a.yaml"); }).find("a.yaml:"), std::string::npos);
  EXPECT_NE(error_of([] { Config::parse("a: \xff\n", "a.yaml"); }).find("UTF-8"), std::string::npos);
  EXPECT_NE(error_of([] { Config::parse("- 1\n- 2\n", "a.yaml"); }).find("found a list"), std::string::npos);
}

double number_at(const Config& config, const std::string& path) {
  double out = -1;
  config.read(path, out, "");
  return out;
}

TEST(ConfigTest, AnAliasIsACopyThatNoOverrideReaches) {
  const char* yaml =
      "train: {steps: &n 4, eval_every: *n}\nlists: &l [1, 2]\nmore: *l\nmethods: [{adapter: &a {rank: 8}}, {adapter: "
      "*a}]\n";
  Config config = Config::parse(yaml, "a.yaml");
  config.set("train.steps=100");
  config.set("lists.0=7");
  config.set("methods.0.adapter.rank=4");
  Config copy = config.copy();
  copy.set_from("methods.1.adapter.rank=2", "compare.ranks");
  copy.overlay("methods.0.adapter", "train");
  EXPECT_EQ(number_at(config, "train.steps"), 100);
  EXPECT_EQ(number_at(config, "train.eval_every"), 4);
  EXPECT_EQ(number_at(config, "lists.0"), 7);
  EXPECT_EQ(number_at(config, "more.0"), 1);
  EXPECT_EQ(number_at(config, "methods.0.adapter.rank"), 4);
  EXPECT_EQ(number_at(config, "methods.1.adapter.rank"), 8);
  EXPECT_EQ(number_at(copy, "methods.0.adapter.rank"), 4);
  EXPECT_EQ(number_at(copy, "methods.1.adapter.rank"), 2);
  EXPECT_EQ(number_at(copy, "train.rank"), 4);
}

TEST(ConfigTest, AKeyWithDotsIsThePathItNames) {
  const Config config = Config::parse("train.lr: 0.5\ntrain: {steps: 7, a.b: 1}\ntrain.a.c: 2\n", "a.yaml");
  const Config train = config.section("train");
  EXPECT_EQ(number_at(train, "lr"), 0.5);
  EXPECT_EQ(number_at(train, "steps"), 7);
  EXPECT_EQ(number_at(train.section("a"), "b"), 1);
  EXPECT_EQ(number_at(train.section("a"), "c"), 2);
  config.finish();
  const auto reading = [](const std::string& yaml) { return error_of([&] { Config::parse(yaml, "a.yaml"); }); };
  EXPECT_NE(reading("train: {lr: 1}\ntrain.lr: 2\n").find("a.yaml:2: the key 'train.lr' is given twice (line 1"),
            std::string::npos);
  EXPECT_NE(reading("train.lr: 2\ntrain: 3\n").find("is given twice"), std::string::npos);
  EXPECT_NE(reading("a..b: 2\n").find("an empty part"), std::string::npos);
  EXPECT_NE(reading("<<: {a: 2}\n").find("a merge key"), std::string::npos);

  // In quotes it is one key, for maps whose keys are anything.
  const Config labels = Config::parse("weights: {'1.5': 2, b: 3}\n");
  EXPECT_EQ(labels.section("weights").keys(), (std::vector<std::string>{"1.5", "b"}));
  EXPECT_EQ(number_at(labels.section("weights"), "1.5"), 2);
  EXPECT_EQ(number_at(labels.section("weights"), "b"), 3);
  labels.finish();
  EXPECT_EQ(number_at(Config::parse(labels.dump_all()).section("weights"), "1.5"), 2);
  const Config twice = Config::parse("train: {lr: 1}\n'train.lr': 2\n", "a.yaml");
  EXPECT_EQ(number_at(twice.section("train"), "lr"), 1);
  EXPECT_NE(error_of([&] { twice.finish(); }).find("train.lr: given twice"), std::string::npos);
}

TEST(ConfigTest, NumbersThatNobodyReadsTheSameWayAreRefusedWithAHint) {
  const auto reading = [](const std::string& text, auto value) {
    const Config config = Config::parse("key: " + text + "\n", "a.yaml");
    return error_of([&] {
      config.read("key", value, "");
      config.finish();
    });
  };
  for (const char* text : {"010", "-08", "00"}) {
    EXPECT_NE(reading(text, int64_t{}).find("a number does not begin with 0"), std::string::npos) << text;
    EXPECT_NE(reading(text, double{}).find("a number does not begin with 0"), std::string::npos) << text;
    EXPECT_EQ(reading(text, std::string{}), "no error") << text;
  }
  for (const char* text : {"1e400", "-1e400", "1e-400"})
    EXPECT_NE(reading(text, double{}).find("no double holds it"), std::string::npos) << text;
  for (const char* text : {"1e-310", "1e-320", ".inf", "-.inf", ".nan", "0e-999"})
    EXPECT_EQ(reading(text, double{}), "no error") << text;
}

TEST(ConfigTest, EveryDoubleIsDumpedAsItReads) {
  std::vector<double> numbers{0,        0.1,       1e-3, 1e22,   1e-310, 5e-324, 1.7976931348623157e308,
                              INFINITY, -INFINITY, NAN,  1.0 / 3};
  uint64_t state = 1;
  for (int i = 0; i < 1000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    if (const double drawn = std::bit_cast<double>(state); std::isfinite(drawn)) numbers.push_back(drawn);
  }
  const Config config = Config::parse("");
  config.read("numbers", numbers, "");
  std::vector<double> again;
  Config::parse(config.dump()).read("numbers", again, "");
  ASSERT_EQ(again.size(), numbers.size());
  for (size_t i = 0; i < numbers.size(); ++i)
    EXPECT_TRUE(again[i] == numbers[i] || (std::isnan(again[i]) && std::isnan(numbers[i])))
        << numbers[i] << " became " << again[i];
}

TEST(ConfigTest, ASecondDocumentIsAnError) {
  const auto reading = [](const std::string& yaml) { return error_of([&] { Config::parse(yaml, "a.yaml"); }); };
  EXPECT_NE(reading("a: 1\n---\nb: 2\n").find("a.yaml:2: a second YAML document begins here"), std::string::npos);
  EXPECT_NE(reading("a: 1\n...\nb: 2\n").find("a second YAML document"), std::string::npos);
  EXPECT_EQ(reading("---\na: 1\n...\n"), "no error");
  Config config = Config::parse("");
  EXPECT_NE(error_of([&] { config.set("a=1\n--- 2"); }).find("a second YAML document"), std::string::npos);
  EXPECT_NE(reading("a: !!int 3\n").find("is not read"), std::string::npos);
  EXPECT_EQ(reading("a: !!str 3\n"), "no error");
}

TEST(ConfigTest, OnTheCommandLineAPlainTextIsTakenWhole) {
  const auto text_of = [](const std::string& assignment) {
    Config config = Config::parse("text: from the file\n", "a.yaml");
    std::string out = "the default";
    return error_of([&] {
             config.set(assignment);
             config.read("text", out, "");
             config.finish();
           }) == "no error"
               ? out
               : "refused";
  };
  EXPECT_EQ(text_of("text=#1"), "#1");
  EXPECT_EQ(text_of("text=a #1"), "a #1");
  EXPECT_EQ(text_of("text= a "), "a");
  EXPECT_EQ(text_of("text='a' # b"), "a");
  EXPECT_EQ(text_of("text='NULL'"), "NULL");
  EXPECT_EQ(text_of("text=NULL"), "refused");
  EXPECT_EQ(text_of("text=null"), "the default");
  EXPECT_EQ(text_of("text="), "the default");
  EXPECT_EQ(text_of("text=None"), "None");
  const Config file = Config::parse("text: NULL\nnumber: NULL\n", "a.yaml");
  std::string text;
  file.read("text", text, "");
  EXPECT_EQ(number_at(file, "number"), -1);
  EXPECT_NE(error_of([&] {
              file.finish();
            }).find("a.yaml:1: text: expected a text, found NULL, which YAML takes for no value"),
            std::string::npos);
}

TEST(ConfigTest, ChoicesWithYesAndNoTakeEveryBooleanOfYaml) {
  const auto word_of = [](const std::string& yaml, const std::vector<std::string>& words) {
    const Config config = Config::parse("key: " + yaml + "\n", "a.yaml");
    std::string word = words.front();
    config.read_choice("key", word, words, "");
    config.finish();
    EXPECT_EQ(config.dump().find(word) != std::string::npos, true) << config.dump();
    return word;
  };
  for (const char* yes : {"true", "yes", "on", "True", "YES", "y", "'yes'"}) {
    EXPECT_EQ(word_of(yes, {"auto", "yes", "no"}), "yes") << yes;
    EXPECT_EQ(word_of(yes, {"false", "test", "true"}), "true") << yes;
  }
  for (const char* no : {"false", "no", "off", "False", "NO", "n"})
    EXPECT_EQ(word_of(no, {"auto", "yes", "no"}), "no") << no;
  EXPECT_EQ(word_of("test", {"false", "test", "true"}), "test");
  EXPECT_NE(error_of([&] { word_of("true", {"bayes", "als"}); }), "no error");
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
  EXPECT_NE(error_of([&] { strict.finish(); }).find("a.yaml:3: runs.1.nam: unknown key (did you mean 'name'?)"),
            std::string::npos);
  EXPECT_NE(error_of([&] { config.set("runs.2.name=x"); }).find("there is no item 2"), std::string::npos);
}

TEST(ConfigTest, SettingsAreThePathsAndValuesOfWhatWasDumped) {
  using Settings = std::vector<std::pair<std::string, std::string>>;
  const Config config = Config::parse(
      "train:\n  lr: 1.0e-3\nadapter:\n  targets:\n    - 're:a: [b]'\n    - q\ncompare:\n  methods:\n    - {name: "
      "LoRA}\n    - {name: x}\n");
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
