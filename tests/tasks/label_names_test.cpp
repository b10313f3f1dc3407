#include "tasks/label_names.h"

#include <gtest/gtest.h>

namespace deeplora {
namespace {

using Names = std::vector<std::string>;

TEST(LabelNamesTest, SpellingsOfANumberAreOneForm) {
  for (const char* text : {"1", "1.0", "1.", "1.00", "10e-1", "0.1e1", "1e0", "1E+00", "100E-2"}) EXPECT_EQ(number_form(text), "1e0") << text;
  for (const char* text : {"0", "-0", "0.0", "0e9", ".0"}) EXPECT_EQ(number_form(text), "0e0") << text;
  EXPECT_EQ(number_form("-12.50"), "-125e-1");
  EXPECT_EQ(number_form("9007199254740993"), "9007199254740993e0");
  EXPECT_NE(number_form("9007199254740993"), number_form("9007199254740992"));  // one double
  for (const char* text : {"", "-", ".", "e1", "1e", "1e+", "007", "+1", "1 ", "0x1", "nan", "inf", "1,5", "1.0.0", "1e9999999999"})
    EXPECT_FALSE(number_form(text)) << text;
}

TEST(LabelNamesTest, SpellingsAreOneLabelWhereAllLabelsAreNumbers) {
  const LabelNames numbers = LabelNames::of({"0", "1", "1.0", "10", "2.0"});
  EXPECT_EQ(numbers.names(), (Names{"0", "1", "2.0", "10"}));
  EXPECT_EQ(numbers.respelt(), (std::vector<std::pair<std::string, std::string>>{{"1.0", "1"}}));
  EXPECT_EQ(numbers.find("1.00"), 1);
  EXPECT_EQ(numbers.find("2"), 2);
  EXPECT_EQ(numbers.find(" 10\t"), 3);
  EXPECT_FALSE(numbers.find("3"));
  EXPECT_FALSE(numbers.find("ten"));
  const LabelNames texts = LabelNames::of({"1", "1.0", "one"});
  EXPECT_EQ(texts.names(), (Names{"1", "1.0", "one"}));
  EXPECT_EQ(texts.find("1.0"), 1);
  EXPECT_FALSE(texts.find("1.00"));
  EXPECT_EQ(LabelNames::of({"007", "7"}).size(), 2u);  // codes
}

TEST(LabelNamesTest, WhatIsNoFiniteNumberIsAName) {
  EXPECT_EQ(LabelNames::of({"9", "10", "nan"}).names(), (Names{"10", "9", "nan"}));  // by bytes, as all names
  EXPECT_EQ(LabelNames::of({"9", "0x10", "10"}).names(), (Names{"0x10", "10", "9"}));
  EXPECT_EQ(LabelNames::of({"inf", "1.0", "1"}).names(), (Names{"1", "1.0", "inf"}));
  const LabelNames large = LabelNames::of({"1e999", "10e998", "2", "-1e999", "1e998"});  // beyond every double, and still numbers
  EXPECT_EQ(large.names(), (Names{"-1e999", "2", "1e998", "1e999"}));
  EXPECT_EQ(large.find("0.1e1000"), 3);
}

TEST(LabelNamesTest, NamesOfARunKeepTheirOrder) {
  const LabelNames saved = LabelNames::in_order({"1", "0", "1e999"});
  EXPECT_EQ(saved.find("0.0"), 1);
  const LabelNames older = LabelNames::in_order({"1", "1.0", " x "});  // written before spellings were one
  EXPECT_EQ(older.find("1.0"), 1);
  EXPECT_EQ(older.find(" x "), 2);
}

}  // namespace
}  // namespace deeplora
