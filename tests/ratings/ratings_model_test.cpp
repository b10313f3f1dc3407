// Oracle: tests/golden/ratings.json, the same computations in NumPy (tests/golden/make/ratings.py).
#include "ratings/ratings_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "core/safetensors.h"
#include "ratings/rating_factors.h"
#include "ratings/ratings_file.h"
#include "ratings/ratings_run.h"
#include "support/temp_folder.h"

namespace deeplora {
namespace {
namespace fs = std::filesystem;
using Doubles = std::vector<double>;

const nlohmann::json& golden() {
  static const auto json = nlohmann::json::parse(read_file(DEEPLORA_TEST_DATA "/golden/ratings.json"));
  return json;
}

Ratings golden_ratings() {
  Ratings out;
  for (int64_t i = 0; i < golden()["rows"]; ++i) out.rows.add("r" + std::to_string(i));
  for (int64_t j = 0; j < golden()["cols"]; ++j) out.cols.add("c" + std::to_string(j));
  out.row = golden()["row"].get<std::vector<int32_t>>();
  out.col = golden()["col"].get<std::vector<int32_t>>();
  out.value = golden()["value"].get<Doubles>();
  return out;
}

void expect_near(const Doubles& found, const Doubles& expected, double tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], tolerance) << i;
}

TEST(Biases, AreTheRidgeSolution) {
  const auto& expected = golden()["biases"];
  const RatingsModel model =
      fit_biases(golden_ratings(), {.row_penalty = expected["row_penalty"], .col_penalty = expected["col_penalty"]});
  EXPECT_NEAR(model.mean, expected["mean"].get<double>(), 1e-12);
  expect_near(model.row_bias, expected["row"].get<Doubles>(), 1e-8);
  expect_near(model.col_bias, expected["col"].get<Doubles>(), 1e-8);
}

TEST(Biases, EstimatedPenaltiesAreNoiseOverBiasVariance) {
  // 200 x 200, all observed: spread of the biases 0.5 and 0.25, of the noise 1: penalties 4 and 16.
  Ratings r;
  uint64_t state = 1;
  const auto uniform = [&] {
    return static_cast<double>((state = state * 6364136223846793005ULL + 1442695040888963407ULL) >> 40) / 16777216.0;
  };
  const auto normal = [&] {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return sum;
  };
  Doubles b(200), c(200);
  for (double& v : b) v = 0.5 * normal();
  for (double& v : c) v = 0.25 * normal();
  for (int i = 0; i < 200; ++i)
    for (int j = 0; j < 200; ++j) {
      r.row.push_back(r.rows.add(std::to_string(i)));
      r.col.push_back(r.cols.add(std::to_string(j)));
      r.value.push_back(3 + b[static_cast<size_t>(i)] + c[static_cast<size_t>(j)] + normal());
    }
  EXPECT_NEAR(fit_biases(r).row_penalty.at(0), 4, 1.2);
}

TEST(RatingFactors, EqualNumPy) {
  for (const auto& fit : golden()["fits"]) {
    FactorOptions o;
    o.rank = fit["rank"];
    o.sweeps = fit["sweeps"];
    o.seed = golden()["seed"];
    o.solver = fit["bayes"] ? FactorSolver::bayes : FactorSolver::als;
    o.weighted = true;
    if (fit.contains("regularization")) o.regularization = fit["regularization"].get<double>();
    o.implicit_rows = o.implicit_cols = fit.value("implicit", false);
    o.implicit_regularization = 0.3;
    const Ratings train = golden_ratings();
    const RatingsModel model = fit_rating_factors(train, o);
    Doubles predicted;
    for (size_t i = 0; i < train.value.size(); ++i) predicted.push_back(model.predict(train.row[i], train.col[i]));
    // float32 moments, and conjugate gradients to 1e-3 for the implicit part.
    SCOPED_TRACE(fit.dump().substr(0, 60));
    expect_near(predicted, fit["prediction"].get<Doubles>(), o.implicit_rows ? 2e-2 : 1e-4);
  }
}

TEST(RatingFactors, DoNotDependOnTheNumberOfThreads) {
  const Ratings train = golden_ratings();
  FactorOptions o;
  o.rank = 3;
  o.sweeps = 4;
  o.implicit_rows = o.implicit_cols = true;
  const RatingsModel one = fit_rating_factors(train, o);
  o.threads = 3;
  const RatingsModel three = fit_rating_factors(train, o);
  EXPECT_EQ(three.row_factor, one.row_factor);
  EXPECT_EQ(three.col_factor, one.col_factor);
}

TEST(RatingFactors, ExplainsWhatCannotBeFactorized) {
  Ratings same = golden_ratings();
  for (double& v : same.value) v = 4;
  EXPECT_THROW(fit_rating_factors(same, {}), Error);
}

TEST(CrossValidation, FoldsGridAndScoresEqualNumPy) {
  const auto& grid = golden()["grid"];
  RatingsConfig config;
  config.folds = static_cast<int64_t>(grid["folds"].size());
  config.seed = golden()["seed"];
  config.sweeps = grid["sweeps"];
  config.dev_share = grid["dev_share"];
  config.patience = grid["patience"];
  config.weighted = true;
  for (const auto& rank : grid["ranks"])
    for (const auto& penalty : grid["regularization"]) config.grid.push_back({"als", rank, 2, penalty.get<double>()});
  const Ratings all = golden_ratings();
  const auto folds = k_folds(all.size(), config.folds, config.seed);
  for (size_t f = 0; f < folds.size(); ++f)
    EXPECT_EQ(folds[f].held_out, grid["folds"][f]["held_out"].get<std::vector<int64_t>>());
  const auto scores = cross_validate(config, all, {});
  ASSERT_EQ(scores.size(), grid["folds"].size());
  for (size_t f = 0; f < scores.size(); ++f) {
    const auto& expected = grid["folds"][f];
    EXPECT_EQ(scores[f].chosen.rank, expected["best"]["rank"].get<int64_t>()) << f;
    EXPECT_EQ(*scores[f].chosen.regularization, expected["best"]["regularization"].get<double>()) << f;
    EXPECT_NEAR(scores[f].scores.model.rmse, expected["test"]["rmse"].get<double>(), 1e-4) << f;
    EXPECT_NEAR(scores[f].scores.model.mae, expected["test"]["mae"].get<double>(), 1e-4) << f;
  }
  const RatingsOutcome outcome = choose_ratings_model(config, all.subset(folds[0].train), std::nullopt, {});
  for (size_t c = 0; c < outcome.candidates.size(); ++c)
    EXPECT_NEAR(outcome.candidates[c]["rmse"].get<double>(), grid["folds"][0]["tried"][c]["rmse"].get<double>(), 1e-4)
        << c;
}

class PartsTest : public ::testing::Test {
 protected:
  PartsTest() {
    config_.train = folder_.write("train.csv", "a,x,1\na,y,2\nb,x,3\nb,y,5\nc,x,4\n");
    config_.dev = folder_.write("dev.csv", "a,x,5\nc,y,2\nd,x,1\n");
    config_.test = folder_.write("test.csv", "a,y,2\nc,y,1\nc,z,3\nb,y,4\n");
    config_.grid = {{"als", 1, 2, 1.0}};
    config_.sweeps = 3;
  }
  const testing::TempFolder folder_;
  RatingsConfig config_;
};

TEST_F(PartsTest, SharedPairsAreCountedAndSaid) {
  const RatingsData data = load_ratings(config_);
  EXPECT_EQ(data.dev_overlap, 1);
  EXPECT_EQ(data.test_overlap, 3) << "c, y is in dev";
  const std::string said = join(data.remarks, " ");
  EXPECT_NE(said.find("completion.dev: 1 of 3 ratings are of pairs that completion.train holds too"), std::string::npos)
      << said;
  EXPECT_NE(said.find("completion.test: 3 of 4 ratings are of pairs that completion.train or completion.dev holds too"),
            std::string::npos)
      << said;
  EXPECT_EQ(data.seen().size(), 5 + 2 + 3) << "what is known of rows and columns of train";
  config_.duplicates = Duplicates::error;
  EXPECT_THROW(load_ratings(config_), Error);
}

TEST_F(PartsTest, ASharedPairCountsOnceInTheLastFits) {
  config_.refit_all = true;
  const RatingsData data = load_ratings(config_);
  const RatingsOutcome outcome = choose_ratings_model(config_, data.train, data.dev, {});
  EXPECT_EQ(outcome.fitted_on, 6) << "five of train, one new pair of dev";
  ASSERT_TRUE(data.all.has_value());
  EXPECT_EQ(data.all->size(), 5 + 2 + 1);
  EXPECT_EQ(data.all->value[0], 5) << "the last of both files";
  const RatingsModel kept = fit_on_all(config_, outcome, *data.all, {});
  EXPECT_EQ(kept.rows, 4);
  EXPECT_EQ(kept.cols, 3) << "ids of dev and test alone are learnt too";
}

TEST(RatingsConfig, RefusesFoldsUnderASplitByTime) {
  const Config config = Config::parse("completion: {train: a.csv, split: time, folds: 5, refit: all}");
  const RatingsConfig read = RatingsConfig::read(config.section("completion"), 4, 2, 1, 3);
  EXPECT_TRUE(read.refit_all);
  EXPECT_EQ(read.threads, 3);
  try {
    config.finish();
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("completion.folds: expected 0 with split: time"), std::string::npos)
        << e.what();
  }
}

TEST(RatingsCandidate, NamesTellAllPenaltiesApart) {
  EXPECT_NE((RatingsCandidate{"als", 8, 2, 0.1}.name()), (RatingsCandidate{"als", 8, 2, 0.1 + 1e-12}.name()));
  EXPECT_EQ((RatingsCandidate{"chain", 8, 3, 0.01}.name()), "chain depth 3 rank 8 regularization 0.01");
}

TEST(Choice, KeepsTheBiasesWhenLowRankAddsNothing) {
  // Biases and noise alone.
  Ratings r;
  uint64_t state = 7;
  const auto noise = [&] {
    return static_cast<double>((state = state * 6364136223846793005ULL + 1442695040888963407ULL) >> 40) / 16777216.0 -
           0.5;
  };
  for (int i = 0; i < 40; ++i)
    for (int j = 0; j < 30; ++j) {
      r.row.push_back(r.rows.add(std::to_string(i)));
      r.col.push_back(r.cols.add(std::to_string(j)));
      r.value.push_back(0.1 * i - 0.05 * j + 2 * noise());
    }
  RatingsConfig config;
  config.grid = {{"als", 8, 2, 0.001}};
  const RatingsOutcome outcome = choose_ratings_model(config, r, std::nullopt, {});
  EXPECT_FALSE(outcome.low_rank_helps);
  EXPECT_EQ(outcome.fit.model.rank, 0);
  EXPECT_EQ(outcome.dev.model.rmse, outcome.dev.bias.rmse);
}

TEST(Splits, HoldOutTheNewest) {
  Ratings r = golden_ratings();
  for (int64_t i = 0; i < r.size(); ++i) r.time.push_back(static_cast<double>((i * 37) % r.size()));
  const Split split = time_split(r, 0.25);
  EXPECT_EQ(split.held_out.size(), 65U);
  for (const int64_t i : split.held_out) EXPECT_GE(r.time[static_cast<size_t>(i)], 195);
  EXPECT_THROW(time_split(golden_ratings(), 0.25), Error);
  EXPECT_THROW(random_split(10, 0.01, 1), Error);
  EXPECT_THROW(k_folds(3, 4, 1), Error);
}

RatingsModel fold_in_model() {
  const auto& g = golden()["fold_in"];
  RatingsModel model;
  model.col_factor = g["col_factor"].get<Doubles>();
  model.col_bias = g["col_bias"].get<Doubles>();
  model.cols = static_cast<int64_t>(model.col_bias.size());
  model.rank = 3;
  model.rows = 1;
  model.row_bias = {0};
  model.row_factor = {0, 0, 0};
  model.mean = g["mean"];
  model.row_penalty = g["penalty"].get<Doubles>();
  model.row_link = g["link"].get<Doubles>();
  return model;
}

TEST(FoldIn, IsNumPysLeastSquares) {
  const auto& g = golden()["fold_in"];
  auto cols = g["cols"].get<std::vector<int32_t>>();
  auto values = g["values"].get<Doubles>();
  expect_near(fold_in(fold_in_model(), cols, values), g["coordinates"].get<Doubles>(), 1e-10);
  cols.push_back(-1);  // a column that was not trained on says nothing
  values.push_back(100);
  expect_near(fold_in(fold_in_model(), cols, values), g["coordinates"].get<Doubles>(), 1e-10);
}

TEST(FoldIn, OfATrainedRowGivesItsFactorsBack) {
  const Ratings train = golden_ratings();
  FactorOptions o;
  o.rank = 2;
  o.sweeps = 200;
  o.solver = FactorSolver::als;
  o.weighted = true;
  o.regularization = 0.1;
  const RatingsModel model = fit_rating_factors(train, o);
  const SparseSide side = SparseSide::make(model.rows, train.row, train.col, train.value);
  const auto begin = static_cast<size_t>(side.begin[4]), count = static_cast<size_t>(side.count(4));
  const Doubles x = fold_in(model, {side.other.data() + begin, count}, {side.value.data() + begin, count});
  expect_near(x, coordinates_of(model, 4), 2e-3);
}

/// 30 x 16, two thirds of it rated: three factors, biases, and a little noise.
Ratings random_ratings(uint64_t seed) {
  constexpr size_t kRows = 30, kCols = 16, kRank = 3;
  uint64_t state = seed;
  const auto uniform = [&] {
    return static_cast<double>((state = state * 6364136223846793005ULL + 1442695040888963407ULL) >> 40) / 16777216.0;
  };
  const auto spread = [&] { return 4 * uniform() - 2; };
  Doubles b((kRank + 1) * kRows), a((kRank + 1) * kCols);
  for (double& v : b) v = spread();
  for (double& v : a) v = spread();
  Ratings r;
  for (size_t i = 0; i < kRows; ++i)
    for (size_t j = 0; j < kCols; ++j) {
      if (uniform() < 0.33 && j != i % kCols) continue;
      double value = 3 + b[kRank * kRows + i] + a[kRank * kCols + j] + 0.05 * spread();
      for (size_t k = 0; k < kRank; ++k) value += b[k * kRows + i] * a[k * kCols + j];
      r.row.push_back(r.rows.add(std::to_string(i)));
      r.col.push_back(r.cols.add("c" + std::to_string(j)));
      r.value.push_back(value);
    }
  return r;
}

TEST(FoldIn, OfTrainedRowsEqualsTrainingForEverySetting) {
  uint64_t seed = 1;
  for (const bool bayes : {false, true})
    for (const bool biases : {true, false})
      for (const bool weighted : {false, true})
        for (const bool on_product : {false, true})
          for (const char* implicit : {"none", "rows", "cols", "both"}) {
            if (bayes && (weighted || on_product)) continue;
            const Ratings train = random_ratings(++seed);
            FactorOptions o;
            o.rank = 1 + static_cast<int64_t>(seed % 3);
            o.sweeps = 2000;
            o.solver = bayes ? FactorSolver::bayes : FactorSolver::als;
            o.biases = biases;
            o.weighted = weighted;
            o.on_product = on_product;
            o.implicit_rows = implicit == std::string("rows") || implicit == std::string("both");
            o.implicit_cols = implicit == std::string("cols") || implicit == std::string("both");
            o.seed = seed;
            if (!bayes) o.regularization = (weighted ? 0.02 : 0.2) * static_cast<double>(1 + seed % 3);
            const testing::TempFolder folder;
            save_ratings_model(folder.path(), fit_rating_factors(train, o), train);
            const RatingsModel model = load_ratings_model(folder.path()).model;  // what folding in needs is in the file
            const SparseSide side = SparseSide::make(model.rows, train.row, train.col, train.value);
            // Links come to rest slowly, those of weighted rows hardly.
            const bool linked = implicit != std::string("none");
            const double tolerance = weighted && linked ? 2e-2 : bayes ? 1e-3 : linked ? 2e-4 : 1e-5;
            SCOPED_TRACE(cat("bayes ", bayes, " biases ", biases, " weighted ", weighted, " product ", on_product,
                             " implicit ", implicit, " rank ", o.rank));
            for (int64_t i = 0; i < model.rows; ++i) {
              const auto begin = static_cast<size_t>(side.begin[static_cast<size_t>(i)]),
                         count = static_cast<size_t>(side.count(i));
              expect_near(fold_in(model, {side.other.data() + begin, count}, {side.value.data() + begin, count}),
                          coordinates_of(model, i), tolerance);
              if (::testing::Test::HasFailure()) return;
            }
          }
}

TEST(TopN, LeavesOutWhatWasRated) {
  RatingsModel model = fold_in_model();
  model.range = {1, 5};
  const Doubles x{0, 0, 0, 0};
  Doubles bias = model.col_bias;
  const auto best = static_cast<int32_t>(std::max_element(bias.begin(), bias.end()) - bias.begin());
  EXPECT_EQ(top_n(model, x, {}, 1).at(0).col, best);
  bias[static_cast<size_t>(best)] = -100;
  const auto second = std::max_element(bias.begin(), bias.end()) - bias.begin();
  const auto found = top_n(model, x, {best, -1}, 100);
  EXPECT_EQ(found.at(0).col, second);
  EXPECT_EQ(found.size(), bias.size() - 1);
  EXPECT_LE(found.at(0).value, 5);
}

TEST(RatingsFile, GivesTheModelBack) {
  const testing::TempFolder folder;
  const Ratings train = golden_ratings();
  FactorOptions o;
  o.rank = 3;
  o.sweeps = 3;
  o.implicit_rows = true;
  RatingsModel model = fit_rating_factors(train, o);
  model.range = {0.5, 5};
  save_ratings_model(folder.path(), model, train);
  const NamedRatingsModel back = load_ratings_model(folder.path());
  for (int64_t i = 0; i < model.rows; ++i)
    for (int64_t j = 0; j < model.cols; ++j) ASSERT_EQ(back.model.predict(i, j), model.predict(i, j));
  EXPECT_EQ(back.model.row_link, model.row_link);
  EXPECT_EQ(back.rows.name(3), "r3");
  EXPECT_EQ(back.seen.begin.back(), train.size());
  const auto error_with = [&](const std::string& file, const SafeTensorView& other) {
    const std::string before = read_file(folder / file);
    std::vector<SafeTensorView> views;
    const auto all = SafeTensorsFile::read(folder / file);
    for (const auto& [name, info] : all.tensors())
      views.push_back(name == other.name ? other : SafeTensorView{name, info.dtype, info.shape, all.data(name)});
    write_safetensors(folder / file, views, all.metadata());
    std::string message = "no error";
    try {
      load_ratings_model(folder.path());
    } catch (const Error& e) {
      message = e.what();
    }
    write_file_atomically(folder / file, before);
    return message;
  };
  const auto tensor = [](const char* name, const char* dtype, std::vector<int64_t> shape, const auto& values) {
    return SafeTensorView{name, dtype, std::move(shape), std::as_bytes(std::span(values))};
  };
  const std::vector<double> none;
  EXPECT_NE(error_with("adapter.safetensors", tensor("B", "F64", {0}, none)).find("'B' has 1 dimensions, expected 2"),
            std::string::npos);
  EXPECT_NE(error_with("adapter.safetensors", tensor("B", "F64", {0, int64_t{1} << 61}, none)).find("rank"),
            std::string::npos);
  std::vector<int64_t> begin = back.seen.begin;
  begin.back() = -1;
  EXPECT_NE(error_with("seen.safetensors", tensor("begin", "I64", {static_cast<int64_t>(begin.size())}, begin))
                .find("does not rise"),
            std::string::npos);
  std::vector<int32_t> beyond = back.seen.other;
  beyond[0] = static_cast<int32_t>(model.cols);
  EXPECT_NE(error_with("seen.safetensors", tensor("col", "I32", {static_cast<int64_t>(beyond.size())}, beyond))
                .find("beyond the"),
            std::string::npos);
  fs::remove(folder / "cols.txt");
  EXPECT_THROW(load_ratings_model(folder.path()), Error);
}

}  // namespace
}  // namespace deeplora
