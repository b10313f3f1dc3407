// Oracle: the definitions of the schemes, case by case.
#include "tasks/tag_scheme.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "support/errors.h"

namespace deeplora {
namespace {

using testing::error_of;

using Tags = std::vector<std::string>;

TagScheme found(const std::vector<Tags>& all) {
  std::vector<TaggedText> texts;
  for (const auto& tags : all) texts.push_back({cat("rows:", texts.size() + 1), tags});
  return find_tag_scheme(texts);
}

TEST(TagScheme, IsFoundByLettersAndByWhatFollowsWhat) {
  EXPECT_EQ(found({{"B-PER", "I-PER", "O"}, {"O", "B-LOC"}}), TagScheme::iob2);
  EXPECT_EQ(found({{"I-PER", "I-PER", "O"}, {"I-LOC", "B-LOC"}}), TagScheme::iob1);
  EXPECT_EQ(found({{"I-PER", "O"}}), TagScheme::iob1);
  EXPECT_EQ(found({{"B-PER", "O", "I-PER"}, {"B-PER", "I-PER"}, {"B-PER", "O"}}), TagScheme::iob2);
  EXPECT_EQ(found({{"B-PER", "E-PER", "O", "S-LOC"}}), TagScheme::iobes);
  EXPECT_EQ(found({{"S-LOC", "O"}}), TagScheme::iobes);
  EXPECT_EQ(found({{"B-PER", "L-PER", "O"}}), TagScheme::bilou);
  EXPECT_EQ(found({{"U-LOC"}}), TagScheme::bilou);
  EXPECT_EQ(found({{"NOUN", "VERB"}, {"X", "I"}}), TagScheme::plain);
  EXPECT_EQ(found({{"person-actor", "O"}}), TagScheme::plain);
  EXPECT_EQ(found({{"O", "O"}}), TagScheme::plain);
  EXPECT_EQ(found({{"B", "I", "O"}}), TagScheme::iob2);
}

TEST(TagScheme, MixedOnesAreRefusedWithTheirPlaces) {
  const auto refused = [](const std::vector<Tags>& all) { return error_of([&] { found(all); }); };
  EXPECT_EQ(refused({{"B-PER", "I-PER"}, {"PER"}}),
            "tags of mixed schemes: 'B-PER' (rows:1) has a prefix, 'PER' (rows:2) has none; write all tags in one "
            "scheme, or set data.tag_scheme: plain to take each as it is");
  EXPECT_NE(
      refused({{"B-PER", "E-PER"}, {"U-LOC"}}).find("'E-PER' (rows:1) is one of IOBES, 'U-LOC' (rows:2) one of BILOU"),
      std::string::npos);
  EXPECT_NE(refused({{"I-PER", "E-PER"}}).find("(IOE)"), std::string::npos);
}

TEST(TagScheme, TagsThatBreakItAreTold) {
  EXPECT_EQ(first_break(TagScheme::iob2, {"B-PER", "I-PER", "O", "B-PER", "B-PER"}), "");
  EXPECT_EQ(first_break(TagScheme::iob2, {"O", "I-PER"}), "tag 2, 'I-PER', follows 'O'");
  EXPECT_EQ(first_break(TagScheme::iob2, {"I-PER"}), "tag 1, 'I-PER', follows nothing");
  EXPECT_EQ(first_break(TagScheme::iob2, {"B-LOC", "I-PER"}), "tag 2, 'I-PER', follows 'B-LOC'");
  EXPECT_EQ(first_break(TagScheme::iob2, {"S-LOC"}), "tag 1, 'S-LOC', is none of iob2");
  EXPECT_EQ(first_break(TagScheme::iob1, {"I-PER", "B-PER", "I-PER", "I-LOC"}), "");
  EXPECT_EQ(first_break(TagScheme::iob1, {"I-PER", "B-LOC"}), "tag 2, 'B-LOC', follows 'I-PER'");
  EXPECT_EQ(first_break(TagScheme::iobes, {"B-PER", "I-PER", "E-PER", "S-PER", "O"}), "");
  EXPECT_EQ(first_break(TagScheme::iobes, {"B-PER", "O"}), "tag 2, 'O', follows 'B-PER'");
  EXPECT_EQ(first_break(TagScheme::iobes, {"B-PER"}), "the last tag, 'B-PER', ends nothing");
  EXPECT_EQ(first_break(TagScheme::bilou, {"B-PER", "L-PER", "U-LOC"}), "");
  EXPECT_EQ(first_break(TagScheme::bilou, {"U-LOC", "L-LOC"}), "tag 2, 'L-LOC', follows 'U-LOC'");
  EXPECT_EQ(first_break(TagScheme::plain, {"I-PER", "x"}), "");
}

TEST(TagScheme, ThatOfAModelsClassesIsByTheirLetters) {
  EXPECT_EQ(scheme_of_classes({"O", "B-PER", "I-PER", "B-LOC", "I-LOC"}), TagScheme::iob2);
  EXPECT_EQ(scheme_of_classes({"O", "I-PER", "I-LOC"}), TagScheme::iob1);
  EXPECT_EQ(scheme_of_classes({"O", "PER", "B-LOC"}), TagScheme::plain);
  EXPECT_EQ(scheme_of_classes({"LABEL_0", "LABEL_1"}), TagScheme::plain);
  EXPECT_EQ(as_iobes({"B-A", "L-A", "U-B", "O"}), (Tags{"B-A", "E-A", "S-B", "O"}));
}

}  // namespace
}  // namespace deeplora
