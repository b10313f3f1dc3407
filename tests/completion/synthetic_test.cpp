// Places drawn without replacement. Oracle: what a set of positions is.
#include "completion/synthetic.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "core/random.h"

namespace deeplora {
namespace {

void expect_places(int64_t all, int64_t wanted, int64_t listable) {
  SCOPED_TRACE(::testing::Message() << wanted << " of " << all << ", listable " << listable);
  const torch::Tensor places = draw_places(all, wanted, make_generator(7, "observed"), listable);
  ASSERT_EQ(places.numel(), wanted);
  ASSERT_EQ(places.scalar_type(), torch::kInt64);
  if (wanted == 0) return;
  EXPECT_GE(places.min().item<int64_t>(), 0);
  EXPECT_LT(places.max().item<int64_t>(), all);
  EXPECT_TRUE(wanted < 2 || (places.diff() > 0).all().item<bool>()) << "rising, none twice";
}

TEST(DrawPlaces, GivesAsManyDifferentOnesAsAreWanted) {
  for (const int64_t listable : {1, 2000})
    for (const int64_t wanted : {1, 2, 499, 500, 501, 999, 1000}) expect_places(1000, wanted, listable);
}

TEST(DrawPlaces, AllOfAMillionAreThereAtOnce) {
  // By rejection the last place would take a million passes.
  expect_places(1 << 20, 1 << 20, 1);
  expect_places(1 << 20, (1 << 20) - 1, 1);
}

TEST(DrawPlaces, EveryPlaceIsAsLikely) {
  torch::Tensor count = torch::zeros({50});
  at::Generator generator = make_generator(3, "observed");
  for (int i = 0; i < 2000; ++i) count.index_add_(0, draw_places(50, 40, generator, 1), torch::ones({40}));
  // 1600 expected, standard deviation 18.
  EXPECT_LT((count - 1600).abs().max().item<double>(), 100);
}

}  // namespace
}  // namespace deeplora
