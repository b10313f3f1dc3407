#include "core/random.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace deeplora {
namespace {

TEST(RandomTest, StreamsOfOneSeedDifferByNameAndRepeat) {
  auto a = make_generator(1, "data"), again = make_generator(1, "data"), b = make_generator(1, "init"),
       other = make_generator(2, "data");
  const auto draw = [](at::Generator& g) { return torch::rand({4}, g); };
  const auto x = draw(a);
  EXPECT_TRUE(torch::equal(x, draw(again)));
  EXPECT_FALSE(torch::equal(x, draw(b)));
  EXPECT_FALSE(torch::equal(x, draw(other)));
}

}  // namespace
}  // namespace deeplora
