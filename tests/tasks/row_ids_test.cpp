// Oracle: the tokens that were put into a row before padding was put around them.
#include "tasks/row_ids.h"

#include <gtest/gtest.h>

#include <random>

#include "core/error.h"
#include "core/number_text.h"
#include "text/row_errors.h"

namespace deeplora {
namespace {

using Ids = std::vector<int64_t>;

std::string error_of(const nlohmann::ordered_json& fields, bool labels = true) {
  try {
    read_row_ids({"rows.jsonl:3", fields}, labels);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(RowIdsTest, PaddingAtEitherEndIsTakenOffOfEveryList) {
  std::mt19937 random(7);
  const auto draw = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (int i = 0; i < 500; ++i) {
    RowIds inner;
    for (int64_t n = draw(1, 8); n > 0; --n) {
      inner.input_ids.push_back(draw(0, 50));
      inner.attention_mask.push_back(draw(0, 3) > 0);
      inner.token_type_ids.push_back(draw(0, 1));
      inner.labels.push_back(inner.attention_mask.back() == 1 && draw(0, 1) ? draw(0, 50) : -100);
    }
    inner.attention_mask.front() = inner.attention_mask.back() = 1;
    RowIds padded = inner;
    const auto pad = [&](Ids& list, auto value) {
      list.insert(list.begin(), static_cast<size_t>(i % 4), value);
      list.insert(list.end(), static_cast<size_t>(i % 3), value);
    };
    pad(padded.input_ids, draw(0, 50));
    pad(padded.attention_mask, 0);
    pad(padded.token_type_ids, draw(0, 1));
    pad(padded.labels, -100);
    const Row row{"r:1",
                  {{"input_ids", padded.input_ids},
                   {"attention_mask", padded.attention_mask},
                   {"token_type_ids", padded.token_type_ids},
                   {"labels", padded.labels}}};
    const RowIds found = read_row_ids(row, true);
    EXPECT_EQ(found.input_ids, inner.input_ids);
    EXPECT_EQ(found.token_type_ids, inner.token_type_ids);
    EXPECT_EQ(found.labels, inner.labels);
    const bool gaps =
        std::find(inner.attention_mask.begin(), inner.attention_mask.end(), 0) != inner.attention_mask.end();
    EXPECT_EQ(found.attention_mask, gaps ? inner.attention_mask : Ids{});
    EXPECT_EQ(turned_rows({row}).empty(), i % 4 == 0);
  }
}

TEST(RowIdsTest, WhatNoModelCanReadIsNamed) {
  const nlohmann::ordered_json ids = {5, 6, 7};
  EXPECT_EQ(error_of({{"input_ids", ids}, {"attention_mask", {1, 2, 1}}}),
            "rows.jsonl:3: attention_mask: expected 1 for a token and 0 for padding, found 2");
  EXPECT_EQ(error_of({{"input_ids", ids}, {"attention_mask", {0, 0, 0}}}),
            "rows.jsonl:3: attention_mask: all 3 tokens are hidden; expected at least one 1");
  EXPECT_EQ(error_of({{"input_ids", ids}, {"attention_mask", {1, 1}}}),
            "rows.jsonl:3: attention_mask: expected 3 values as in input_ids, found 2");
  EXPECT_EQ(error_of({{"input_ids", ids}, {"attention_mask", {true, true, true}}}),
            "rows.jsonl:3: attention_mask: expected whole numbers from 0, found true");
  EXPECT_EQ(error_of({{"input_ids", nlohmann::ordered_json::array()}}),
            "rows.jsonl:3: input_ids: an empty list; expected at least one token");
  EXPECT_EQ(error_of({{"input_ids", {5, -100}}}), "rows.jsonl:3: input_ids: expected whole numbers from 0, found -100");
  EXPECT_EQ(error_of({{"input_ids", "5 6"}}),
            "rows.jsonl:3: input_ids: expected a list of whole numbers, found \"5 6\"");
  EXPECT_EQ(error_of({{"input_ids", {18446744073709551615ULL}}}),
            "rows.jsonl:3: input_ids: expected whole numbers from 0, found 18446744073709551615");
  const nlohmann::ordered_json hidden = {{"input_ids", ids}, {"attention_mask", {1, 1, 0}}, {"labels", {-100, 6, 7}}};
  EXPECT_EQ(error_of(hidden),
            "rows.jsonl:3: labels: token 2 is hidden by attention_mask, but has the label 7; set it to -100");
  EXPECT_EQ(error_of(hidden, false), "no error");
}

TEST(RowErrorsTest, TheSameMistakeIsSaidOnceWithItsFirstPlace) {
  RowErrors errors;
  EXPECT_NO_THROW(errors.throw_if_any("x"));
  errors.add_what("a:1", "a:1: no text");
  errors.add("a:2", "other");
  for (int i = 3; i < 1203; ++i) errors.add_what(cat("a:", i), "no text");
  EXPECT_EQ(errors.rows(), 1202u);
  EXPECT_EQ(errors.text(), "a:1: no text (1,201 rows, the last a:1202); a:2: other");
  EXPECT_EQ(shortened("ab\xC3\xA9", 3), "ab...");
  EXPECT_EQ(shortened("ab\xC3\xA9", 4), "ab\xC3\xA9");
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(1234567), "1,234,567");
}

}  // namespace
}  // namespace deeplora
