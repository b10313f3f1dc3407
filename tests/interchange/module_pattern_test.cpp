#include "interchange/module_pattern.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"

namespace deeplora {
namespace {

// Right values by Python's re: tests/golden/make/module_patterns.py.
TEST(ModulePatternTest, MatchesAsPythonDoes) {
  const auto cases = nlohmann::json::parse(read_file(std::string(DEEPLORA_TEST_DATA) + "/golden/module_patterns.json"));
  int matched = 0;
  for (const auto& c : cases) {
    const std::string pattern = c[0], name = c[1];
    const ModulePattern made(pattern, "rank_pattern");
    EXPECT_EQ(made.is_whole(name), c[2].get<bool>()) << pattern << " whole " << name;
    EXPECT_EQ(made.is_end(name), c[3].get<bool>()) << pattern << " end " << name;
    EXPECT_EQ(made.is_part(name), c[4].get<bool>()) << pattern << " part " << name;
    matched += c[2].get<bool>() + c[3].get<bool>() + c[4].get<bool>();
  }
  EXPECT_GT(matched, 300);
}

TEST(ModulePatternTest, WhatIsNotReadIsNamed) {
  for (const char* pattern : {"(?<=a)b", "(?P<layer>a)", "(", "a{2", "[]a]", "(a)\\1", "(?i)a"}) {
    try {
      ModulePattern(pattern, "rank_pattern");
      ADD_FAILURE() << pattern;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("rank_pattern"), std::string::npos) << e.what();
    }
  }
  EXPECT_THROW(ModulePattern(std::string(5000, '('), "x"), Error);
}

TEST(ModulePatternTest, PatternsOfStrangersEnd) {
  const ModulePattern slow("(a*)*(a*)*(a*)*b", "x");
  EXPECT_FALSE(slow.is_whole(std::string(200, 'a')));
}

}  // namespace
}  // namespace deeplora
