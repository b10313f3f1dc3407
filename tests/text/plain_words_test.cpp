// Oracle: the definitions; the tokenizers library's BertPreTokenizer is in test_token_classification.py.
#include "text/plain_words.h"

#include <gtest/gtest.h>

namespace deeplora {
namespace {

TEST(PlainWords, PlacesCountCodePointsOfTheTextAsItIs) {
  const std::string text = "  Zo\u00eb\u2019s caf\u00e9,\u3000\U0001F600ok (x) ";
  const PlainWords found = plain_words(text);
  EXPECT_EQ(found.words,
            (std::vector<std::string>{"Zo\u00eb", "\u2019", "s", "caf\u00e9", ",", "\U0001F600ok", "(", "x", ")"}));
  ASSERT_EQ(found.words.size(), found.offsets.size());
  EXPECT_EQ(found.offsets[0], (TokenOffsets{2, 5}));
  EXPECT_EQ(found.offsets[5], (TokenOffsets{14, 17}));
  for (size_t i = 0; i < found.words.size(); ++i) EXPECT_EQ(slice(text, found.offsets[i]), found.words[i]);
  EXPECT_TRUE(plain_words(" \t\n").words.empty());
}

TEST(PlainWords, WordsOfAListStandInTheirJoinedText) {
  const std::vector<std::string> words{"caf\u00e9", "", "ok"};
  EXPECT_EQ(joined_offsets(words), (std::vector<TokenOffsets>{{0, 4}, {5, 5}, {6, 8}}));
  EXPECT_EQ(slice("caf\u00e9  ok", {6, 8}), "ok");
}

}  // namespace
}  // namespace deeplora
