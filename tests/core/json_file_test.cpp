#include "core/json_file.h"

#include <gtest/gtest.h>

#include "support/errors.h"

namespace deeplora {
namespace {

using testing::error_of;

OrderedJsonFile file(const std::string& text) { return OrderedJsonFile::parse("a.json", text); }

TEST(JsonFileTest, ValuesOfTheirTypeAreRead) {
  const auto json = file(
      R"({"flag": true, "whole": -3, "float": 2.0, "large": 18446744073709551615, "number": 1, "text": "x", "none": null,
                             "list": [1, 2], "object": {"a": "b"}})");
  EXPECT_EQ(json.at<bool>("flag"), true);
  EXPECT_EQ(json.at<int64_t>("whole"), -3);
  EXPECT_EQ(json.at<int64_t>("float"), 2);
  EXPECT_EQ(json.at<uint64_t>("large"), 18446744073709551615ULL);
  EXPECT_EQ(json.at<double>("number"), 1.0);
  EXPECT_EQ(json.at<std::string>("text"), "x");
  EXPECT_EQ(json.at<std::vector<int64_t>>("list"), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ((json.at<std::map<std::string, std::string>>("object")), (std::map<std::string, std::string>{{"a", "b"}}));
  EXPECT_EQ(json.value("none", int64_t{7}), 7);
  EXPECT_EQ(json.value("absent", std::string("y")), "y");
  EXPECT_TRUE(json.section("absent").root.empty());
  EXPECT_FALSE(json.has("none"));
}

TEST(JsonFileTest, OtherTypesAreErrorsThatNameFileKeyExpectedAndFound) {
  const auto json = file(
      R"({"flag": 1, "whole": 2.5, "huge": 1e30, "large": 18446744073709551615, "below": -1, "number": true, "text": 5,
                             "list": [1, "b"], "object": {"a": 1}, "section": []})");
  const auto message = [&]<class T>(const char* key, T) { return error_of([&] { json.at<T>(key); }); };
  EXPECT_EQ(message("flag", bool{}), "a.json: flag: expected true or false, found 1");
  EXPECT_EQ(message("whole", int64_t{}), "a.json: whole: expected a whole number, found 2.5");
  EXPECT_EQ(message("huge", int64_t{}), "a.json: huge: expected a whole number, found 1e+30");
  EXPECT_EQ(message("large", int64_t{}), "a.json: large: expected a whole number, found 18446744073709551615");
  EXPECT_EQ(message("below", uint64_t{}), "a.json: below: expected a whole number, found -1");
  EXPECT_EQ(message("number", double{}), "a.json: number: expected a number, found true");
  EXPECT_EQ(message("text", std::string()), "a.json: text: expected a text, found 5");
  EXPECT_EQ(message("list", std::vector<int64_t>()), "a.json: list: expected a list of whole numbers, found [1,\"b\"]");
  EXPECT_EQ(message("object", std::map<std::string, std::string>()),
            "a.json: object: expected an object of texts, found {\"a\":1}");
  EXPECT_EQ(message("absent", bool{}), "a.json: absent is missing");
  EXPECT_EQ(error_of([&] { json.section("section"); }), "a.json: section: expected an object, found []");
}

TEST(JsonFileTest, WhatIsNoObjectIsAnError) {
  EXPECT_EQ(error_of([] { file("[1]"); }), "a.json: expected a JSON object, found array");
  EXPECT_EQ(error_of([] { file("{"); }).find("a.json: not valid JSON"), 0u);
  EXPECT_EQ(error_of([] { file(std::string(1000, '[')); }), "a.json: nests deeper than 200 levels");
}

TEST(JsonFileTest, FoundValuesAreOneShortPrintableLine) {
  const std::string message =
      error_of([] { file("{\"a\": \"\\n\xC3\xA9" + std::string(500, 'x') + "\"}").at<bool>("a"); });
  EXPECT_LT(message.size(), 120u);
  for (const unsigned char c : message) EXPECT_TRUE(c >= 32 && c < 127) << int{c};
}

}  // namespace
}  // namespace deeplora
