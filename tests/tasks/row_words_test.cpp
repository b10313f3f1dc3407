#include "tasks/row_words.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "support/errors.h"

namespace deeplora {
namespace {

using testing::error_of;
using Words = std::vector<std::string>;

Row row_of(const std::string& fields) { return {"rows:3", nlohmann::ordered_json::parse(fields)}; }

TEST(RowWords, AreReadFromListsFromListsInCellsAndFromTexts) {
  const RowWords list = read_row_words(row_of(R"({"tokens": ["Anna", "was", 7]})"), "tokens", true);
  EXPECT_EQ(list.words, (Words{"Anna", "was", "7"}));
  EXPECT_EQ(list.text, "Anna was 7");
  EXPECT_EQ(list.offsets[2], (TokenOffsets{9, 10}));
  EXPECT_FALSE(list.from_text);
  EXPECT_EQ(read_row_words(row_of(R"({"tokens": " [\"a\", \"b\"]"})"), "tokens", false).words, (Words{"a", "b"}));
  const RowWords text = read_row_words(row_of(R"({"tokens": "Anna, hi"})"), "tokens", false);
  EXPECT_EQ(text.words, (Words{"Anna", ",", "hi"}));
  EXPECT_TRUE(text.from_text);
  EXPECT_EQ(read_row_tags(row_of(R"({"tags": [" O ", 3]})"), "tags", 2, "tokens"), (Words{"O", "3"}));
}

TEST(RowWords, MistakesAreToldWithTheRow) {
  const auto words = [](const char* fields) {
    return error_of([&] { read_row_words(row_of(fields), "tokens", true); });
  };
  EXPECT_EQ(words(R"({"tokens": []})"),
            "rows:3: tokens: an empty list; expected at least one word (leave the row out)");
  EXPECT_EQ(words(R"({"tokens": "a b"})"), R"(rows:3: tokens: expected a list of words, found a text, "a b")");
  EXPECT_EQ(words(R"({"tokens": ["a", null]})"), "rows:3: tokens: expected a list of words, found null in it");
  EXPECT_EQ(words(R"({"token": ["a"]})"), "rows:3: no column 'tokens' (did you mean 'token'?); columns: token");
  const auto tags = [](const char* fields) {
    return error_of([&] { read_row_tags(row_of(fields), "tags", 2, "tokens"); });
  };
  EXPECT_EQ(tags(R"({"tags": ["O"]})"), "rows:3: tags: 1 tag for 2 words in tokens; expected a tag for every word");
  EXPECT_EQ(tags(R"({"tags": "O O"})"), R"(rows:3: tags: expected a list of tags, found a text, "O O")");
  EXPECT_EQ(tags(R"({"tags": ["O", " "]})"), "rows:3: tags: tag 2 is empty");
  EXPECT_EQ(error_of([] { read_row_words(row_of(R"({"tokens": "  "})"), "tokens", false); }),
            "rows:3: tokens: a text without a word; leave the row out");
}

}  // namespace
}  // namespace deeplora
