#include "core/long_work.h"

#include <gtest/gtest.h>

namespace deeplora {
namespace {

TEST(LongWork, SaysHowFarItIsWhereThatIsKnown) {
  LongWork work("tokenizing data.train", 200);
  work.advance(50);
  EXPECT_EQ(work.line(3, 79), "tokenizing data.train [########------------------------] 50/200  0:09 left");
  work.advance(150);
  EXPECT_EQ(work.line(12, 79), "tokenizing data.train [################################] 200/200  in 0:12");
}

TEST(LongWork, SaysHowLongItTakesWhereNothingElseIsKnown) {
  LongWork work("reading rows.csv");
  EXPECT_EQ(work.line(65, 79), "reading rows.csv  1:05");
  work.advance(12345);
  EXPECT_EQ(work.line(65, 79), "reading rows.csv  12,345  1:05");
}

TEST(LongWork, IsNoWiderThanTheTerminal) {
  LongWork known("tokenizing data.train", 200), unknown("reading a/long/path/to/rows.csv");
  for (int width = 0; width < 90; ++width) {
    EXPECT_LE(known.line(3, width).size(), static_cast<size_t>(width));
    EXPECT_LE(unknown.line(3, width).size(), static_cast<size_t>(width));
  }
}

}  // namespace
}  // namespace deeplora
