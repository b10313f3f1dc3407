// Oracle: tests/golden/ratings.json, "update": the alternation in NumPy, gone on with on other data.
#include "ratings/ratings_update.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "support/temp_folder.h"

namespace deeplora {
namespace {
using Doubles = std::vector<double>;

const nlohmann::json& golden_table() {
  static const auto json = nlohmann::json::parse(read_file(DEEPLORA_TEST_DATA "/golden/ratings.json"));
  return json;
}

Ratings table_before() {
  const auto& g = golden_table();
  Ratings out;
  for (int64_t i = 0; i < g["rows"]; ++i) out.rows.add("r" + std::to_string(i));
  for (int64_t j = 0; j < g["cols"]; ++j) out.cols.add("c" + std::to_string(j));
  out.row = g["row"].get<std::vector<int32_t>>();
  out.col = g["col"].get<std::vector<int32_t>>();
  out.value = g["value"].get<Doubles>();
  return out;
}

Ratings table_added() {
  Ratings out;
  for (const auto& entry : golden_table()["update"]["added"]) {
    out.row.push_back(out.rows.add("r" + std::to_string(entry[0].get<int>())));
    out.col.push_back(out.cols.add("c" + std::to_string(entry[1].get<int>())));
    out.value.push_back(entry[2]);
  }
  return out;
}

FactorOptions of_update(const std::string& solver, const RatingsConfig& config, RatingsCandidate& chosen) {
  chosen.solver = solver;
  return factor_options(config, chosen);
}

NamedRatingsModel saved(const testing::TempFolder& folder, const RatingsModel& model, const Ratings& train) {
  save_ratings_model(folder.path(), model, train);
  return load_ratings_model(folder.path());
}

TEST(RatingsUpdate, GoesOnAsNumPyDoes) {
  const auto& update = golden_table()["update"];
  for (const auto& fit : update["fits"]) {
    RatingsConfig config;
    config.seed = golden_table()["seed"];
    config.sweeps = fit["sweeps"];
    config.update_sweeps = fit["further"];
    config.weighted = true;
    config.implicit = fit.value("implicit", false) ? "both" : "none";
    config.implicit_regularization = 0.3;
    RatingsCandidate chosen;
    chosen.rank = fit["rank"];
    if (fit.contains("regularization")) chosen.regularization = fit["regularization"].get<double>();
    const FactorOptions o = of_update(fit["bayes"] ? "bayes" : "als", config, chosen);
    const testing::TempFolder folder;
    const NamedRatingsModel run = saved(folder, fit_rating_factors(table_before(), o), table_before());
    const RatingsUpdate found = update_ratings(run, table_added(), config, chosen);
    SCOPED_TRACE(fit.dump().substr(0, 60));
    EXPECT_EQ(found.new_rows, 2);
    EXPECT_EQ(found.new_cols, 1);
    const auto expected = fit["prediction"].get<Doubles>();
    RatingsModel model = found.model;
    model.range.reset();
    size_t cell = 0;
    for (int64_t i = 0; i < model.rows; ++i)
      for (int64_t j = 0; j < model.cols; ++j, ++cell) {
        // In NumPy new rows and columns are numbered as they are called; here as they first appear in the file.
        const int32_t row = found.all.rows.find("r" + std::to_string(i)),
                      col = found.all.cols.find("c" + std::to_string(j));
        ASSERT_NEAR(model.predict(row, col), expected[cell], 2e-3) << i << ", " << j;
      }
  }
}

TEST(RatingsUpdate, WithNothingNewIsALongerFit) {
  for (const char* solver : {"als", "bayes", "gibbs"})
    for (const char* implicit : {"none", "both"}) {
      if (solver == std::string("gibbs") && implicit == std::string("both")) continue;  // its link is drawn anew
      RatingsConfig config;
      config.implicit = implicit;
      config.sweeps = 6;
      config.burn_in = 3, config.draws = 4, config.thin = 1;
      config.update_sweeps = 5;
      RatingsCandidate chosen{.solver = solver, .rank = 2, .regularization = {}};
      const testing::TempFolder folder;
      const NamedRatingsModel run =
          saved(folder, fit_rating_factors(table_before(), factor_options(config, chosen)), table_before());
      // The fit to compare with sees the ratings in the order of the run's file, as the update does.
      FactorOptions o = factor_options(config, chosen);
      o.sweeps += 5 + (o.solver == FactorSolver::gibbs ? 4 : 0);
      o.burn_in = 3 + 4 + 5;
      const RatingsModel longer = fit_rating_factors(table_before(), o);
      const RatingsUpdate found = update_ratings(run, table_before(), config, chosen);
      EXPECT_EQ(found.replaced, table_before().size());
      for (int64_t i = 0; i < longer.rows; ++i)
        for (int64_t j = 0; j < longer.cols; ++j)
          ASSERT_NEAR(found.model.predict(i, j), std::clamp(longer.predict(i, j), 0.5, 5.0), 1e-4)
              << solver << ", implicit " << implicit << ", " << i << ", " << j;
    }
}

TEST(RatingsUpdate, SaysWhatItCannotDo) {
  RatingsConfig config;
  const testing::TempFolder folder;
  RatingsCandidate chain{.solver = "chain", .rank = 2, .regularization = {}};
  const NamedRatingsModel run = saved(
      folder,
      fit_rating_factors(table_before(), factor_options(config, {.solver = "als", .rank = 2, .regularization = {}})),
      table_before());
  EXPECT_THROW(update_ratings(run, table_added(), config, chain), Error);
  NamedRatingsModel old = run;
  old.model.state.reset();
  EXPECT_THROW(update_ratings(old, table_added(), config, {.solver = "als", .rank = 2, .regularization = {}}), Error);
  // Biases alone are fitted anew.
  const RatingsModel biases = fit_biases(table_before());
  const testing::TempFolder other;
  const RatingsUpdate found = update_ratings(saved(other, biases, table_before()), table_added(), config, {});
  EXPECT_EQ(found.sweeps, 0);
  EXPECT_NEAR(found.model.mean, fit_biases(found.all).mean, 1e-12);
}

}  // namespace
}  // namespace deeplora
