#include "tasks/label_names.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace deeplora {
namespace {

using Names = std::vector<std::string>;

TEST(LabelNamesTest, SpellingsOfANumberAreOneForm) {
  for (const char* text : {"1", "1.0", "1.", "1.00", "10e-1", "0.1e1", "1e0", "1E+00", "100E-2"})
    EXPECT_EQ(number_form(text), "1e0") << text;
  for (const char* text : {"0", "-0", "0.0", "0e9", ".0"}) EXPECT_EQ(number_form(text), "0e0") << text;
  EXPECT_EQ(number_form("-12.50"), "-125e-1");
  EXPECT_EQ(number_form("9007199254740993"), "9007199254740993e0");
  EXPECT_NE(number_form("9007199254740993"), number_form("9007199254740992"));  // one double
  for (const char* text :
       {"", "-", ".", "e1", "1e", "1e+", "007", "+1", "1 ", "0x1", "nan", "inf", "1,5", "1.0.0", "1e9999999999"})
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
  const LabelNames large =
      LabelNames::of({"1e999", "10e998", "2", "-1e999", "1e998"});  // beyond every double, and still numbers
  EXPECT_EQ(large.names(), (Names{"-1e999", "2", "1e998", "1e999"}));
  EXPECT_EQ(large.find("0.1e1000"), 3);
}

TEST(LabelNamesTest, AModelsClassesKeepItsOrder) {
  const Names classes{"neutral", "Entailment", "contradiction"};
  const LabelNames named = LabelNames::of_model(classes, {"entailment", "neutral", "2"});
  EXPECT_EQ(named.names(), classes);
  EXPECT_TRUE(named.are_the_models());
  for (const auto& [label, expected] : std::vector<std::pair<std::string, int64_t>>{{"neutral", 0},
                                                                                    {" NEUTRAL ", 0},
                                                                                    {"entailment", 1},
                                                                                    {"Entailment", 1},
                                                                                    {"contradiction", 2},
                                                                                    {"0", 0},
                                                                                    {"2", 2},
                                                                                    {"LABEL_1", 1}})
    EXPECT_EQ(named.find(label), expected) << label;
  for (const char* stranger : {"3", "-1", "01", "1.0", "LABEL_", "LABEL_3", "label_1", "neutra", ""})
    EXPECT_FALSE(named.find(stranger)) << stranger;
}

TEST(LabelNamesTest, CasesThatTwoClassesShareDecideNothing) {
  const LabelNames names = LabelNames::of_model({"US", "us"}, {"US"});
  EXPECT_EQ(names.find("us"), 1);
  EXPECT_FALSE(names.find("Us"));
}

TEST(LabelNamesTest, ClassesThatAreNumbersAreNames) {
  const LabelNames stars = LabelNames::of_model({"1", "2", "3"}, {"1", "3"});
  EXPECT_EQ(stars.find("1"), 0);
  EXPECT_EQ(stars.find("3.0"), 2);
  EXPECT_FALSE(stars.find("0"));  // class 0 is called 1
}

TEST(LabelNamesTest, NumberedClassesAreCalledWhatWasFound) {
  const Names placeholders{"LABEL_0", "LABEL_1", "LABEL_2"};
  EXPECT_EQ(LabelNames::of_model(placeholders, {"0", "2"}).names(), (Names{"0", "LABEL_1", "2"}));
  EXPECT_EQ(LabelNames::of_model(placeholders, {"LABEL_1"}).names(), placeholders);
  const LabelNames others = LabelNames::of_model(placeholders, {"neg", "pos", "mid"});
  EXPECT_EQ(others.names(), (Names{"mid", "neg", "pos"}));
  EXPECT_FALSE(others.are_the_models());
  EXPECT_EQ(LabelNames::of_model(placeholders, {"1", "2", "3"}).names(), (Names{"1", "2", "3"}));
}

TEST(LabelNamesTest, StrangersAreNamedTogether) {
  try {
    LabelNames::of_model({"yes", "no"}, {"yes", "maybe", "7"});
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(),
                 "'7', 'maybe' are none of the classes of the model's own head: yes, no; head.type: linear puts a new "
                 "head on the model");
  }
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
