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
  comparison.settle(comparison.index_of({comparison.group_at(method, plan.ranks[0], plan.samples[0]), lr, seed}),
                    outcome);
}

void end(Comparison& comparison, size_t method, size_t lr, int64_t seed, CellState state) {
  const ComparePlan& plan = comparison.plan();
  CellOutcome outcome;
  outcome.state = state;
  outcome.message = "the loss is nan";
  comparison.settle(comparison.index_of({comparison.group_at(method, plan.ranks[0], plan.samples[0]), lr, seed}),
                    outcome);
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
  EXPECT_TRUE(comparison.drop_hopeless().given_up.empty());  // the third rate's second seed has not run
  // Cells of the third seed wait until it has: with everything else running there is nothing to start for LoRA.
  std::set<size_t> running;
  for (size_t i = 0; i < comparison.cells().size(); ++i)
    if (comparison.cells()[i].group == kDeep || comparison.cells()[i].seed == 2) running.insert(i);
  EXPECT_FALSE(comparison.next(running));
  finish(comparison, 0, 2, 2, dev[2], 0);
  const auto dropped = comparison.drop_hopeless().given_up;
  EXPECT_EQ(dropped.size(), 3u);
  for (const size_t cell : dropped) {
    EXPECT_EQ(comparison.cells()[cell].lr, 2u);
    EXPECT_EQ(comparison.cells()[cell].group, kLora);
  }
  const Comparison::Drops again = comparison.drop_hopeless();
  EXPECT_TRUE(again.given_up.empty() && again.taken_back.empty());
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
  EXPECT_TRUE(comparison.drop_hopeless().given_up.empty());  // nothing is saved
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
  EXPECT_TRUE(comparison.drop_hopeless().given_up.empty());
}

TEST(ComparisonTest, ALearningRateThatDivergesLaterIsNoYardstick) {
  ComparePlan plan = plan_of(3, {1e-3, 1e-2});
  plan.early_stop = {.seeds = 2, .margin = 0.1};
  // The same outcomes, in the order in which they come and all at once as a later call reads them.
  for (const bool at_once : {false, true}) {
    Comparison comparison(plan);
    for (int64_t seed = 1; seed <= 2; ++seed) {
      finish(comparison, 0, 0, seed, 0.60, 0.5);
      finish(comparison, 0, 1, seed, 0.80, 0.7);
    }
    if (!at_once) {
      const auto given_up = comparison.drop_hopeless().given_up;
      ASSERT_EQ(given_up.size(), 1u);
      EXPECT_EQ(comparison.cells()[given_up[0]].lr, 0u);
      EXPECT_TRUE(comparison.drop_hopeless().taken_back.empty());
    }
    end(comparison, 0, 1, 3, CellState::diverged);
    const Comparison::Drops drops = comparison.drop_hopeless();
    EXPECT_TRUE(drops.given_up.empty());
    ASSERT_EQ(drops.taken_back.size(), at_once ? 0u : 1u);
    const size_t third = comparison.index_of({kLora, 0, 3});
    EXPECT_EQ(comparison.outcome(third).state, CellState::open);
    if (!at_once) {
      EXPECT_EQ(drops.taken_back[0], third);
    }
    finish(comparison, 0, 0, 3, 0.61, 0.5);
    EXPECT_TRUE(comparison.drop_hopeless().given_up.empty());
    const LrChoice choice = comparison.choice(kLora);
    ASSERT_TRUE(choice.chosen);
    EXPECT_EQ(*choice.chosen, 0u);
    EXPECT_TRUE(choice.complete);
    EXPECT_EQ(choice.tried[1].fate, LrOutcome::Fate::diverged);
  }
}

TEST(ComparisonTest, EquallyGoodLearningRatesAreNotCalledWorse) {
  Comparison comparison(plan_of(3));
  // The same three scores in another order: their means differ by rounding.
  const double dev[3][3] = {{0.1, 0.2, 0.6}, {0.6, 0.2, 0.1}, {0.1, 0.2, 0.5}};
  for (size_t lr = 0; lr < 3; ++lr)
    for (int64_t seed = 1; seed <= 3; ++seed) finish(comparison, 0, lr, seed, dev[lr][seed - 1], 0.5);
  const LrChoice choice = comparison.choice(kLora);
  EXPECT_EQ(*choice.chosen, 0u);
  EXPECT_EQ(choice.tried[1].fate, LrOutcome::Fate::tied);
  EXPECT_EQ(choice.tried[2].fate, LrOutcome::Fate::lost);
  const auto cells = rates_cells(comparison);
  EXPECT_EQ(cells[1][6], "equal on dev");
  EXPECT_EQ(cells[2][6], "worse on dev");
  // Nor is one of them given up where only the best goes on.
  ComparePlan plan = plan_of(3);
  plan.early_stop = {.seeds = 2, .margin = 0};
  Comparison strict(plan);
  for (size_t lr = 0; lr < 3; ++lr)
    for (int64_t seed = 1; seed <= 2; ++seed)
      finish(strict, 0, lr, seed, lr == 2 ? 0.1 : seed == static_cast<int64_t>(lr) + 1 ? 0.3 : 0.6, 0.5);
  EXPECT_EQ(strict.drop_hopeless().given_up.size(), 1u);
}

TEST(ComparisonTest, AnUndefinedLearningRateIsCalledSo) {
  Comparison comparison(plan_of(2));
  for (size_t lr = 0; lr < 3; ++lr)
    for (int64_t seed = 1; seed <= 2; ++seed) finish(comparison, 0, lr, seed, lr == 0 ? kNaN : 0.5, 0.5);
  EXPECT_NE(comparison.choice(kLora).tried[0].reason.find("undefined"), std::string::npos);
}

TEST(ComparisonTest, WhatIsLeftOfADivergedLearningRateDoesNotRun) {
  Comparison comparison(plan_of(3));
  end(comparison, 1, 2, 1, CellState::diverged);
  const auto dropped = comparison.drop_hopeless().given_up;
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
  for (size_t i = 1; i < comparison.cells().size(); ++i)
    EXPECT_LE(comparison.cells()[i - 1].seed, comparison.cells()[i].seed);
  EXPECT_EQ(comparison_rows(comparison).size(), 3u * 2 * 2);
}

/// Tests scores of both methods by seed, at one learning rate each.
std::vector<ComparisonRow> rows_of(Comparison& comparison, const std::vector<double>& lora,
                                   const std::vector<double>& deep) {
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
            "Deep LoRA, rank 8, 64 rows: Deep LoRA is better than LoRA by 0.100 pearson (95 % interval +0.088 to "
            "+0.112, 5 of "
            "5 seeds higher).");
  EXPECT_EQ(overall_verdict(rows, comparison, "pearson"),
            "Of 1 comparison with LoRA in pearson, 1 shows a better method, 0 worse ones, 0 no difference.");
}

TEST(VerdictTest, SaysThatNoDifferenceIsShown) {
  Comparison comparison(plan_of(3, {1e-3}));
  const auto rows = rows_of(comparison, {0.50, 0.52, 0.48}, {0.51, 0.50, 0.49});
  EXPECT_EQ(finding(rows[1], true), Finding::not_shown);
  EXPECT_NE(
      verdict(rows[1], comparison, "pearson")
          .find("no difference to LoRA shown: 0.000 pearson (95 % interval -0.043 to +0.043, 2 of 3 seeds higher)."),
      std::string::npos)
      << verdict(rows[1], comparison, "pearson");
  EXPECT_EQ(overall_verdict(rows, comparison, "pearson"),
            "No difference to LoRA in pearson is shown in any of 1 comparison.");
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

/// Two ranked methods and two without a rank, at ranks 1, 2, 4 and three seeds; test scores rise with the method's
/// number.
Comparison of_ranks(size_t baseline) {
  ComparePlan plan;
  plan.methods = {{"none", "none", false, {5e-3}}, {"full", "full", false, {5e-5}}, {"lora", "lora", true, {2e-3}}};
  plan.baseline = baseline;
  plan.ranks = {1, 2, 4};
  plan.seeds = {1, 2, 3};
  Comparison comparison(plan);
  for (size_t i = 0; i < comparison.cells().size(); ++i) {
    const Cell& cell = comparison.cells()[i];
    const auto seed = static_cast<double>(cell.seed), m = static_cast<double>(cell.group.method);
    CellOutcome outcome{.state = CellState::done, .dev = 0.5};
    const auto rank = static_cast<double>(cell.group.rank);
    outcome.test = 0.5 + 0.1 * m + 0.01 * rank + 0.003 * (m + rank) * seed * seed;
    comparison.settle(i, outcome);
  }
  return comparison;
}

TEST(ComparisonTableTest, AMethodWithoutARankIsOneRowAndOneComparison) {
  const Comparison comparison = of_ranks(0);
  const auto rows = comparison_rows(comparison);
  ASSERT_EQ(rows.size(), 5u);  // none, full, lora at three ranks
  EXPECT_EQ(family_size(rows), 4u);
  EXPECT_EQ(row_title(rows[1], comparison), "full");
  EXPECT_EQ(row_title(rows[2], comparison), "lora, rank 1");
  std::vector<double> p;
  for (const auto& row : rows)
    if (row.difference) p.push_back(row.difference->p);
  const auto adjusted = holm_adjusted(p);
  EXPECT_NEAR(rows[1].adjusted_p, adjusted[0], 1e-15);
  EXPECT_NE(overall_verdict(rows, comparison, "accuracy").find("4 comparisons"), std::string::npos);
  const auto json = comparison_json(rows, comparison, "accuracy");
  EXPECT_EQ(json["rows"].size(), 5u);
  EXPECT_EQ(json["comparisons"], 4);
}

TEST(ComparisonTableTest, BesideABaselineWithRanksItIsComparedWithEach) {
  const Comparison comparison = of_ranks(2);
  const auto rows = comparison_rows(comparison);
  ASSERT_EQ(rows.size(), 9u);
  EXPECT_EQ(family_size(rows), 6u);
  EXPECT_EQ(row_title(rows[0], comparison), "none (lora at rank 1)");
  EXPECT_EQ(table_cells(rows, comparison)[3][1], "none (lora at rank 2)");
  EXPECT_NE(rows[0].difference->mean, rows[3].difference->mean);
}

TEST(VerdictTest, EqualDifferencesShowNothing) {
  // Accuracies over 20 rows, one row better with both seeds.
  ComparePlan plan = plan_of(2, {1e-3});
  plan.methods.push_back({"third", "lora", true, {1e-3}});
  Comparison comparison(plan);
  finish(comparison, 2, 0, 1, 0.5, 0.60);
  finish(comparison, 2, 0, 2, 0.5, 0.75);
  const auto rows = rows_of(comparison, {0.80, 0.75}, {0.85, 0.80});
  EXPECT_EQ(finding(rows[1], true), Finding::no_spread);
  EXPECT_TRUE(std::isnan(rows[1].adjusted_p));
  EXPECT_EQ(verdict(rows[1], comparison, "accuracy"),
            "Deep LoRA, rank 8, 64 rows: cannot be judged: +0.050 accuracy against LoRA with each of 2 seeds; "
            "differences that are all "
            "equal say nothing about chance. More seeds do.");
  EXPECT_EQ(table_cells(rows, comparison)[1][4], "cannot be judged: all differences equal");
  EXPECT_NEAR(rows[2].adjusted_p, std::min(1.0, 2 * rows[2].difference->p),
              1e-15);  // one of two comparisons all the same
  EXPECT_EQ(overall_verdict(rows, comparison, "accuracy"),
            "No difference to LoRA in accuracy is shown in any of 1 comparison. 1 more cannot be judged.");
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
