// Oracle: the rules as written in src/compare/comparison.h, worked out by hand on small tables.
#include "compare/comparison.h"

#include <gtest/gtest.h>

#include <cmath>

#include "compare/evidence.h"
#include "compare/table.h"

namespace deeplora {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

ComparePlan plan_of(int64_t seeds, std::vector<double> lr = {1e-4, 1e-3, 1e-2}) {
  ComparePlan plan;
  plan.methods = {{"LoRA", "lora", true, lr}, {"Deep LoRA", "deep-lora", true, lr}};
  plan.ranks = {8};
  plan.samples = {64};
  plan.seeds.clear();
  for (int64_t seed = 1; seed <= seeds; ++seed) plan.seeds.push_back(seed);
  plan.early_stop = {.seeds = 0, .margin = 0.1};
  return plan;
}

void finish(Comparison& comparison, size_t method, size_t lr, int64_t seed, double dev, double test) {
  const ComparePlan& plan = comparison.plan();
  CellOutcome outcome;
  outcome.state = CellState::done;
  outcome.dev = dev;
  outcome.test = test;
  comparison.settle(comparison.index_of({comparison.group_at(method, plan.ranks[0], plan.samples[0]), lr, seed}), outcome);
}

void end(Comparison& comparison, size_t method, size_t lr, int64_t seed, CellState state) {
  const ComparePlan& plan = comparison.plan();
  CellOutcome outcome;
  outcome.state = state;
  outcome.message = "the loss is nan";
  comparison.settle(comparison.index_of({comparison.group_at(method, plan.ranks[0], plan.samples[0]), lr, seed}), outcome);
}

const Group kLora{0, 8, 64}, kDeep{1, 8, 64};

TEST(ComparisonTest, LearningRateIsChosenOnDevAndNeverOnTest) {
  Comparison comparison(plan_of(2));
  for (int64_t seed = 1; seed <= 2; ++seed) {
    finish(comparison, 0, 0, seed, 0.50, 0.99);
    finish(comparison, 0, 1, seed, 0.60, 0.10);
    finish(comparison, 0, 2, seed, seed == 1 ? 0.9 : 0.2, 0.80);  // mean 0.55
  }
  const LrChoice choice = comparison.choice(kLora);
  ASSERT_TRUE(choice.chosen);
  EXPECT_EQ(*choice.chosen, 1u);
  EXPECT_TRUE(choice.complete);
  EXPECT_EQ(choice.edge, LrChoice::Edge::no);
  comparison.set_better(false);
  EXPECT_EQ(*comparison.choice(kLora).chosen, 0u);
  EXPECT_EQ(comparison.choice(kLora).edge, LrChoice::Edge::lowest);
  EXPECT_FALSE(comparison.choice(kDeep).chosen);
}

TEST(ComparisonTest, ADivergedOrUndefinedLearningRateIsNotChosen) {
  Comparison comparison(plan_of(2));
  for (int64_t seed = 1; seed <= 2; ++seed) {
    finish(comparison, 0, 0, seed, kNaN, 0.5);
    finish(comparison, 0, 1, seed, 0.3, 0.3);
  }
  finish(comparison, 0, 2, 1, 0.9, 0.9);
  end(comparison, 0, 2, 2, CellState::diverged);
  const LrChoice choice = comparison.choice(kLora);
  EXPECT_EQ(*choice.chosen, 1u);
  EXPECT_EQ(choice.tried[2].fate, LrOutcome::Fate::diverged);
  EXPECT_EQ(choice.edge, LrChoice::Edge::no);       // what lies beyond diverged
  EXPECT_EQ(missing_cells(comparison).size(), 2u);  // the diverged cell; the open cells of the other method
}

TEST(ComparisonTest, HopelessLearningRatesOfOneGroupAreGivenUpAfterTheEarlySeeds) {
  ComparePlan plan = plan_of(5);
  plan.early_stop = {.seeds = 2, .margin = 0.1};
  Comparison comparison(plan);
  const double dev[] = {0.55, 0.60, 0.45};
  for (size_t lr = 0; lr < 3; ++lr) finish(comparison, 0, lr, 1, dev[lr], 0);
  for (size_t lr = 0; lr < 2; ++lr) finish(comparison, 0, lr, 2, dev[lr], 0);
  EXPECT_TRUE(comparison.drop_hopeless().empty());  // the third rate's second seed has not run
  // Cells of the third seed wait until it has: with everything else running there is nothing to start for LoRA.
  std::set<size_t> running;
  for (size_t i = 0; i < comparison.cells().size(); ++i)
    if (comparison.cells()[i].group == kDeep || comparison.cells()[i].seed == 2) running.insert(i);
  EXPECT_FALSE(comparison.next(running));
  finish(comparison, 0, 2, 2, dev[2], 0);
  const auto dropped = comparison.drop_hopeless();
  EXPECT_EQ(dropped.size(), 3u);
  for (const size_t cell : dropped) {
    EXPECT_EQ(comparison.cells()[cell].lr, 2u);
    EXPECT_EQ(comparison.cells()[cell].group, kLora);
  }
  EXPECT_TRUE(comparison.drop_hopeless().empty());
  EXPECT_EQ(comparison.cells()[*comparison.next(running)].lr, 0u);
  EXPECT_EQ(comparison.choice(kLora).tried[2].fate, LrOutcome::Fate::dropped);
}

TEST(ComparisonTest, ARunThatIsThereAllTheSameDoesNotChangeWhatIsGivenUp) {
  ComparePlan plan = plan_of(3);
  plan.early_stop = {.seeds = 1, .margin = 0.1};
  Comparison comparison(plan);
  for (size_t lr = 0; lr < 3; ++lr) finish(comparison, 0, lr, 1, lr == 0 ? 0.2 : 0.6, 0);
  finish(comparison, 0, 0, 2, 0.99, 0);
  finish(comparison, 0, 0, 3, 0.99, 0);
  EXPECT_TRUE(comparison.drop_hopeless().empty());  // nothing is saved
  EXPECT_EQ(comparison.choice(kLora).tried[0].fate, LrOutcome::Fate::dropped);
  EXPECT_EQ(comparison.choice(kLora).tried[0].dev.size(), 1u);
}

TEST(ComparisonTest, AMethodIsNeverGivenUpForAnotherMethodsScore) {
  ComparePlan plan = plan_of(4);
  plan.early_stop = {.seeds = 1, .margin = 0.05};
  Comparison comparison(plan);
  for (size_t lr = 0; lr < 3; ++lr) {
    finish(comparison, 0, lr, 1, 0.9, 0);
    finish(comparison, 1, lr, 1, 0.1, 0);
  }
  EXPECT_TRUE(comparison.drop_hopeless().empty());
}

TEST(ComparisonTest, WhatIsLeftOfADivergedLearningRateDoesNotRun) {
  Comparison comparison(plan_of(3));
  end(comparison, 1, 2, 1, CellState::diverged);
  const auto dropped = comparison.drop_hopeless();
  ASSERT_EQ(dropped.size(), 2u);
  EXPECT_NE(comparison.outcome(dropped[0]).message.find("diverged with seed 1"), std::string::npos);
}

TEST(ComparisonTest, CellsHaveNamesOfTheirOwnAndRunSeedBySeed) {
  ComparePlan plan = plan_of(3);
  plan.methods.push_back({"head only", "none", false, {5e-3}});
  plan.ranks = {4, 8};
  plan.samples = {16, 64};
  const Comparison comparison(plan);
  // two ranked methods x 2 ranks x 2 sizes x 3 rates x 3 seeds, and one without a rank x 2 sizes x 3 seeds
  EXPECT_EQ(comparison.cells().size(), 2u * 2 * 2 * 3 * 3 + 2 * 3);
  std::set<std::string> names;
  for (const Cell& cell : comparison.cells()) names.insert(comparison.name(cell));
  EXPECT_EQ(names.size(), comparison.cells().size());
  EXPECT_EQ(comparison.name({{1, 8, 64}, 1, 3}), "deep-lora-r8-n64-lr0.001-s3");
  EXPECT_EQ(comparison.title({{2, 0, 16}, 0, 1}), "head only, 16 rows, lr 0.005, seed 1");
  for (size_t i = 1; i < comparison.cells().size(); ++i) EXPECT_LE(comparison.cells()[i - 1].seed, comparison.cells()[i].seed);
  EXPECT_EQ(comparison_rows(comparison).size(), 3u * 2 * 2);
}

/// Tests scores of both methods by seed, at one learning rate each.
std::vector<ComparisonRow> rows_of(Comparison& comparison, const std::vector<double>& lora, const std::vector<double>& deep) {
  for (size_t i = 0; i < lora.size(); ++i) finish(comparison, 0, 0, static_cast<int64_t>(i) + 1, 0.5, lora[i]);
  for (size_t i = 0; i < deep.size(); ++i) finish(comparison, 1, 0, static_cast<int64_t>(i) + 1, 0.5, deep[i]);
  return comparison_rows(comparison);
}

TEST(VerdictTest, SaysByHowMuchWhenTheIntervalExcludesZero) {
  Comparison comparison(plan_of(5, {1e-3}));
  const auto rows = rows_of(comparison, {0.50, 0.52, 0.48, 0.51, 0.49}, {0.60, 0.63, 0.57, 0.62, 0.58});
  EXPECT_EQ(finding(rows[1], true), Finding::better);
  EXPECT_EQ(finding(rows[1], false), Finding::worse);
  // Differences .10 .11 .09 .11 .09: mean .1, sd .01, half width 2.776 x .01 / sqrt 5 = .0124
  EXPECT_EQ(verdict(rows[1], comparison, "pearson"),
            "Deep LoRA, rank 8, 64 rows: Deep LoRA is better than LoRA by 0.100 pearson (95 % interval +0.088 to +0.112, 5 of "
            "5 seeds higher).");
  EXPECT_EQ(overall_verdict(rows, comparison, "pearson"),
            "Of 1 comparison with LoRA in pearson, 1 shows a better method, 0 worse ones, 0 no difference.");
}

TEST(VerdictTest, SaysThatNoDifferenceIsShown) {
  Comparison comparison(plan_of(3, {1e-3}));
  const auto rows = rows_of(comparison, {0.50, 0.52, 0.48}, {0.51, 0.50, 0.49});
  EXPECT_EQ(finding(rows[1], true), Finding::not_shown);
  EXPECT_NE(verdict(rows[1], comparison, "pearson")
                .find("no difference to LoRA shown: 0.000 pearson (95 % interval -0.043 to +0.043, 2 of 3 seeds higher)."),
            std::string::npos)
      << verdict(rows[1], comparison, "pearson");
  EXPECT_EQ(overall_verdict(rows, comparison, "pearson"), "No difference to LoRA in pearson is shown in any of 1 comparison.");
}

TEST(VerdictTest, OneSeedOrNoneSaysNothing) {
  Comparison comparison(plan_of(3, {1e-3}));
  auto rows = rows_of(comparison, {0.5}, {});
  EXPECT_NE(verdict(rows[1], comparison, "accuracy").find("no result"), std::string::npos);
  rows = rows_of(comparison, {0.5}, {0.9});
  EXPECT_EQ(finding(rows[1], true), Finding::unknown);
  EXPECT_NE(verdict(rows[1], comparison, "accuracy").find("one seed says nothing about chance"), std::string::npos);
  EXPECT_NE(overall_verdict(rows, comparison, "accuracy").find("Nothing is shown"), std::string::npos);
}

TEST(VerdictTest, WarnsOfALearningRateAtTheEdgeOfItsGridAndOfMissingSeeds) {
  Comparison comparison(plan_of(3));
  for (int64_t seed = 1; seed <= 3; ++seed)
    for (size_t lr = 0; lr < 3; ++lr) {
      finish(comparison, 0, lr, seed, lr == 1 ? 0.6 : 0.5, 0.5 + 0.01 * static_cast<double>(seed));
      if (seed < 3) finish(comparison, 1, lr, seed, 0.1 * static_cast<double>(lr), 0.5);
    }
  const auto rows = comparison_rows(comparison);
  const std::string text = verdict(rows[1], comparison, "pearson");
  EXPECT_NE(text.find("Only 2 of 3 seeds are finished for both."), std::string::npos) << text;
  EXPECT_NE(text.find("Learning rate at the edge of its grid: Deep LoRA 0.01 (highest); a better one may lie beyond."),
            std::string::npos)
      << text;
}

TEST(VerdictTest, SeveralComparisonsNeedStrongerEvidence) {
  ComparePlan plan = plan_of(5, {1e-3});
  for (int i = 0; i < 8; ++i) plan.methods.push_back({"other " + std::to_string(i), "lora", true, {1e-3}});
  Comparison comparison(plan);
  const std::vector<double> base{0.50, 0.52, 0.48, 0.51, 0.49}, above{0.53, 0.54, 0.55, 0.53, 0.51};  // p about 0.03
  for (size_t m = 2; m < plan.methods.size(); ++m)
    for (int64_t seed = 1; seed <= 5; ++seed)
      finish(comparison, m, 0, seed, 0.5, base[static_cast<size_t>(seed - 1)] + (seed % 2 ? 0.01 : -0.012));
  const auto rows = rows_of(comparison, base, above);
  EXPECT_LT(rows[1].difference->p, 0.05);
  EXPECT_GT(rows[1].adjusted_p, 0.05);
  EXPECT_EQ(finding(rows[1], true), Finding::not_after_adjustment);
  EXPECT_NE(verdict(rows[1], comparison, "pearson").find("excludes zero alone, but not as one of several comparisons"),
            std::string::npos);
}

TEST(CompareFilesTest, LayerIsTheFirstNumberOfThePath) {
  EXPECT_EQ(layer_of("encoder.layer.3.attention.self.query.weight"), 3);
  EXPECT_EQ(layer_of("model.layers.11.mlp.0.weight"), 11);
  EXPECT_EQ(layer_of("embeddings.word_embeddings.weight"), -1);
}

TEST(CompareFilesTest, CsvQuotesWhatNeedsIt) {
  ComparePlan plan = plan_of(1, {1e-3});
  plan.methods[1].name = "Deep \"LoRA\", eps 1e-3";
  const Comparison comparison(plan);
  EXPECT_NE(cells_csv(comparison).find("\"Deep \"\"LoRA\"\", eps 1e-3\""), std::string::npos);
}

}  // namespace
}  // namespace deeplora
