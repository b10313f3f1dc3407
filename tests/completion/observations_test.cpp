#include "completion/observations.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace deeplora {
namespace {

Observations example() {
  // 3 x 4, given out of order; (2, 1) twice.
  return Observations::make(3, 4, torch::tensor({2, 0, 2, 0, 2}), torch::tensor({1, 3, 0, 1, 1}),
                            torch::tensor({5.0, 1.0, 4.0, 0.5, 6.0}));
}

TEST(ObservationsTest, SortsByRowThenColumnAndKeepsTheOrderOfRepeatedPlaces) {
  const Observations o = example();
  EXPECT_TRUE(at::equal(o.row, torch::tensor({0, 0, 2, 2, 2}, torch::kInt32)));
  EXPECT_TRUE(at::equal(o.col, torch::tensor({1, 3, 0, 1, 1}, torch::kInt32)));
  EXPECT_TRUE(at::equal(o.value, torch::tensor({0.5, 1.0, 4.0, 5.0, 6.0}, torch::kFloat64)));
  EXPECT_TRUE(at::equal(o.row_begin(), torch::tensor({0, 2, 2, 5}, torch::kInt64)));
  EXPECT_EQ(o.repeated(), 1);
  EXPECT_DOUBLE_EQ(o.density(), 5.0 / 12);
}

TEST(ObservationsTest, TransposesThereAndBack) {
  const Observations o = example(), t = o.transposed();
  EXPECT_EQ(t.rows, 4);
  EXPECT_TRUE(at::equal(t.row, o.col.index_select(0, o.transposed_order())));
  EXPECT_TRUE(at::equal(t.value, torch::tensor({4.0, 0.5, 5.0, 6.0, 1.0}, torch::kFloat64)));
  const Observations back = t.transposed();
  EXPECT_TRUE(at::equal(back.row, o.row) && at::equal(back.col, o.col) && at::equal(back.value, o.value));
}

TEST(ObservationsTest, SelectsPositionsInAnyOrder) {
  const Observations some = example().select(torch::tensor({4, 0}));
  EXPECT_TRUE(at::equal(some.row, torch::tensor({0, 2}, torch::kInt32)));
  EXPECT_TRUE(at::equal(some.value, torch::tensor({0.5, 6.0}, torch::kFloat64)));
}

TEST(ObservationsTest, RefusesWhatIsOutsideTheMatrix) {
  const auto one = torch::ones({1}, torch::kFloat64);
  EXPECT_THROW(Observations::make(3, 4, torch::tensor({3}), torch::tensor({0}), one), std::invalid_argument);
  EXPECT_THROW(Observations::make(3, 4, torch::tensor({0}), torch::tensor({-1}), one), std::invalid_argument);
  EXPECT_THROW(Observations::make(3, 4, torch::tensor({0, 1}), torch::tensor({0}), one), std::invalid_argument);
  EXPECT_THROW(Observations::make(0, 4, torch::tensor({0}), torch::tensor({0}), one), std::invalid_argument);
}

}  // namespace
}  // namespace deeplora
