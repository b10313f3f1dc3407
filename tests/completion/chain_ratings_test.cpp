// Chains on real ratings. Oracle: what folding in computes from a row's ratings is what training found for that row.
#include "ratings/chain_ratings.h"

#include <gtest/gtest.h>

#include <random>

#include "ratings/sparse_side.h"

namespace deeplora {
namespace {

/// rows x cols, two thirds rated, rank 2 and noise.
Ratings drawn_ratings(int64_t rows, int64_t cols, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::bernoulli_distribution rated(0.67);
  std::vector<double> b(static_cast<size_t>(2 * rows)), a(static_cast<size_t>(2 * cols));
  for (double& v : b) v = normal(random);
  for (double& v : a) v = normal(random);
  Ratings out;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) {
      if (!rated(random) && i % cols != j) continue;
      const auto r = static_cast<size_t>(2 * i), c = static_cast<size_t>(2 * j);
      out.row.push_back(out.rows.add(std::to_string(i)));
      out.col.push_back(out.cols.add(std::to_string(j)));
      out.value.push_back(3 + b[r] * a[c] + b[r + 1] * a[c + 1] + 0.3 * b[r] + 0.1 * normal(random));
    }
  return out;
}

double worst_difference(const RatingsModel& model, const Ratings& train) {
  const SparseSide side = SparseSide::make(model.rows, train.row, train.col, train.value);
  double worst = 0;
  for (int64_t i = 0; i < model.rows; ++i) {
    const auto begin = static_cast<size_t>(side.begin[static_cast<size_t>(i)]),
               count = static_cast<size_t>(side.count(i));
    const auto folded = fold_in(model, {side.other.data() + begin, count}, {side.value.data() + begin, count});
    const auto trained = coordinates_of(model, i);
    for (size_t k = 0; k < trained.size(); ++k) worst = std::max(worst, std::abs(folded[k] - trained[k]));
  }
  return worst;
}

TEST(ChainRatings, FoldingInEqualsAConvergedChainUnderWeightDecay) {
  for (unsigned seed = 1; seed <= 4; ++seed)
    for (const bool biases : {true, false}) {
      const Ratings train = drawn_ratings(24, 12, seed);
      const RatingsModel start = biases ? fit_biases(train, {.row_penalty = 2, .col_penalty = 3}) : fit_mean(train);
      CompletionConfig common;
      common.fit.weight_decay = 0.5 + seed % 3;
      common.fit.reduction = seed % 2 ? "sum" : "mean-observed";
      if (seed % 2 == 0) common.fit.weight_decay /= static_cast<double>(train.size());
      common.fit.stall = 1e-15;
      const RatingsCandidate candidate{
          .solver = "chain", .rank = 2 + seed % 3, .depth = 2 + seed % 2, .regularization = {}};
      const RatingsModel model = fit_rating_chain(train, nullptr, start, candidate, 3000, common, 8, {}).model;
      EXPECT_LT(worst_difference(model, train), 1e-4) << seed << " " << biases;
      double size = 0;
      for (const double x : model.row_factor) size = std::max(size, std::abs(x));
      EXPECT_GT(size, 0.1) << "the chain has learnt something";
    }
}

TEST(ChainRatings, ARowsBiasFoldsInAsItWasTrainedForEveryOptimizer) {
  for (const char* optimizer : {"auto", "gd", "adam"}) {
    const Ratings train = drawn_ratings(20, 9, 11);
    CompletionConfig common;
    common.fit.optimizer = optimizer;
    const RatingsModel model =
        fit_rating_chain(train, nullptr, fit_biases(train, {.row_penalty = 2, .col_penalty = 3}),
                         {.solver = "chain", .rank = 2, .depth = 3, .regularization = {}}, 50, common, 8, {})
            .model;
    const SparseSide side = SparseSide::make(model.rows, train.row, train.col, train.value);
    for (int64_t i = 0; i < model.rows; ++i) {
      const auto begin = static_cast<size_t>(side.begin[static_cast<size_t>(i)]),
                 count = static_cast<size_t>(side.count(i));
      EXPECT_NEAR(fold_in(model, {side.other.data() + begin, count}, {side.value.data() + begin, count}).back(),
                  model.row_bias[static_cast<size_t>(i)], 1e-7)
          << optimizer;
    }
  }
}

TEST(ChainRatings, AWidthBeyondTheSmallerSideIsThatOfTheMatrix) {
  const Ratings train = drawn_ratings(30, 5, 3);
  const RatingsModel model =
      fit_rating_chain(train, nullptr, fit_biases(train),
                       {.solver = "chain", .rank = 8, .depth = 3, .regularization = {}}, 40, {}, 8, {})
          .model;
  EXPECT_EQ(model.rank, 5);
  EXPECT_LT(errors_of(model, train).rmse, errors_of(fit_biases(train), train).rmse);
}

}  // namespace
}  // namespace deeplora
