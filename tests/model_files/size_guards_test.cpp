#include "model_files/size_guards.h"

#include <gtest/gtest.h>

#include "support/errors.h"

namespace deeplora {
namespace {

using testing::error_of;

bool holds(const std::string& text, const SizeGuard::Sizes& sizes = {{"x", {3, 8}}, {"batch.y", {2, 5}}}) {
  return SizeGuard::parse("g", text).holds(sizes);
}

bool refused(const std::string& text) {
  return error_of([&] { SizeGuard::parse("m", text); }).find("which cannot be checked here") != std::string::npos;
}

// What is expected is what Python says of the same expression.
TEST(SizeGuard, PythonsArithmetic) {
  EXPECT_TRUE(holds("L['x'].size()[1] <= 8"));
  EXPECT_FALSE(holds("L['x'].size()[1] != 8"));
  EXPECT_TRUE(holds("L['batch']['y'].size()[0] < L['x'].size()[0]"));
  EXPECT_TRUE(holds("(4 + (-1)*(L['x'].size()[0] % 4)) % 4 == 1"));
  EXPECT_TRUE(holds("-7 // 2 == -4 and -7 % 2 == 1 and 7 // -2 == -4 and 7 % -2 == -1"));
  EXPECT_TRUE(holds("2 + 3*4 - 1 == 13"));
  EXPECT_TRUE(holds("1 < 2 < 3"));
  EXPECT_FALSE(holds("1 < 3 < 2"));
  EXPECT_TRUE(holds("False or not 1 == 2"));
  EXPECT_TRUE(holds("True or 1 // 0 == 1"));
  EXPECT_FALSE(holds("1 // 0 == 1"));
  EXPECT_FALSE(holds("max(1, 5, 3) == min(6, 7)"));
  EXPECT_TRUE(holds("(64 + ((-1)*max(0, 64 + ((-1)*L['x'].size()[1])))) != 64"));
  EXPECT_TRUE(holds("L['x'].size()[0] == 1 or L['x'].size()[1] == 8"));
}

TEST(SizeGuard, InputsThatAreNotGivenAreNotAsked) {
  EXPECT_TRUE(holds("L['z'].size()[0] == 9"));
  EXPECT_FALSE(holds("L['x'].size()[5] == 9"));
}

TEST(SizeGuard, IsShownAsSizes) {
  EXPECT_EQ(SizeGuard::parse("g", "L['batch']['y'].size()[1] == (2*L['x'].size()[0])").shown(),
            "batch.y.size(1) == (2*x.size(0))");
}

TEST(SizeGuard, OtherPythonIsRefused) {
  std::string deep = "1";
  for (int i = 0; i < 1000; ++i) deep = "(" + deep + ")";
  for (const std::string& text : std::vector<std::string>{
           "", "1 +", "(1", "L['x']", "L['x'].stride()[0] == 1", "L['x'].size()[a] == 1", "os.system('x')", "1.5 < 2",
           "2 ** 3 == 8", "4 / 2 == 2", "1 == 1 1", "99999999999999999999 == 1", "L[''].size()[0] == 1"})
    EXPECT_TRUE(refused(text)) << text;
  EXPECT_TRUE(refused(deep));
  EXPECT_TRUE(refused(std::string(5000, '-') + "1"));
  std::string chain = "1";
  for (int i = 0; i < 20000; ++i) chain += "+1";
  EXPECT_TRUE(refused(chain));
}

}  // namespace
}  // namespace deeplora
