// Oracles: tests/golden/posteriors.json, a sampler in NumPy that draws number by number
// (tests/golden/make/posteriors.py), and tables drawn from the model itself.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "ratings/normal_distribution.h"
#include "ratings/rating_factors.h"
#include "ratings/ratings_file.h"
#include "support/temp_folder.h"

namespace deeplora {
namespace {
using Doubles = std::vector<double>;

/// A table with a name for every row and column.
Ratings empty_table(int64_t rows, int64_t cols) {
  Ratings out;
  for (int64_t i = 0; i < rows; ++i) out.rows.add("r" + std::to_string(i));
  for (int64_t j = 0; j < cols; ++j) out.cols.add("c" + std::to_string(j));
  return out;
}

struct Moments {
  Doubles mean, deviation;
};

/// Over every draw of a long chain, for all cells (without times: periods' effects are no part of it).
Moments long_chain(const Ratings& train, FactorOptions o, int64_t sweeps) {
  const size_t n = static_cast<size_t>(train.cols.size()), cells = static_cast<size_t>(train.rows.size()) * n;
  Doubles first(cells, 0.0), second(cells, 0.0);
  o.solver = FactorSolver::gibbs;
  o.burn_in = 500;
  o.thin = sweeps;
  o.sweeps = o.burn_in + sweeps;
  o.after_sweep = [&](int64_t sweep, const RatingsModel& model) {
    for (size_t c = 0; sweep > o.burn_in && c < cells; ++c) {
      const double v = model.predict(static_cast<int64_t>(c / n), static_cast<int64_t>(c % n));
      first[c] += v / static_cast<double>(sweeps);
      second[c] += v * v / static_cast<double>(sweeps);
    }
    return true;
  };
  fit_rating_factors(train, o);
  for (size_t c = 0; c < cells; ++c) second[c] = std::sqrt(second[c] - first[c] * first[c]);
  return {first, second};
}

TEST(Gibbs, HasTheMomentsOfThePosterior) {
  const auto golden = nlohmann::json::parse(read_file(DEEPLORA_TEST_DATA "/golden/posteriors.json"));
  Ratings table = empty_table(golden["rows"], golden["cols"]);
  table.row = golden["row"].get<std::vector<int32_t>>();
  table.col = golden["col"].get<std::vector<int32_t>>();
  for (const auto& expected : golden["cases"]) {
    SCOPED_TRACE(expected["name"].get<std::string>());
    FactorOptions o;
    o.rank = golden["rank"];
    o.implicit_rows = o.implicit_cols = expected["implicit"];
    o.implicit_regularization = golden["ridge"];
    o.ordinal = expected["ordinal"];
    table.value = golden[o.ordinal ? "few" : "value"].get<Doubles>();
    table.time.clear();
    if (expected["periods"]) {
      table.time = golden["day"].get<Doubles>();
      o.row_period = 1;
    }
    const Moments found = long_chain(table, o, 15000);
    double mean = 0, deviation = 0;  // root mean squares over the cells: single cells are noisier than their mean
    for (size_t c = 0; c < found.mean.size(); ++c) {
      const double spread = expected["sd"][c];
      mean += std::pow((found.mean[c] - expected["mean"][c].get<double>()) / spread, 2);
      deviation += std::pow(found.deviation[c] / spread - 1, 2);
    }
    // Cutpoints move slowly in either sampler.
    EXPECT_LT(std::sqrt(mean / static_cast<double>(found.mean.size())), o.ordinal ? 0.15 : 0.06);
    EXPECT_LT(std::sqrt(deviation / static_cast<double>(found.mean.size())), o.ordinal ? 0.2 : 0.06);
  }
}

struct Drawn {
  Ratings train, test;
};

/// Half of a table of factors, biases, effects of days and noise, all normal; the other half is to be predicted.
Drawn drawn_table(uint64_t seed, bool days) {
  constexpr size_t m = 80, n = 50, r = 2;
  PortableRandom random(seed);
  Doubles b(m * (r + 1)), a(n * (r + 1)), effects(m * 3);
  for (Doubles* part : {&b, &a, &effects})
    for (double& v : *part) v = 0.7 * random.normal();
  Drawn out{empty_table(m, n), empty_table(m, n)};
  for (size_t i = 0; i < m; ++i)
    for (size_t j = 0; j < n; ++j) {
      const size_t day = random.below(3);
      double value =
          3 + b[i * (r + 1) + r] + a[j * (r + 1) + r] + (days ? effects[i * 3 + day] : 0) + 0.6 * random.normal();
      for (size_t k = 0; k < r; ++k) value += b[i * (r + 1) + k] * a[j * (r + 1) + k];
      Ratings& part = random.below(2) == 0 ? out.train : out.test;
      part.row.push_back(static_cast<int32_t>(i));
      part.col.push_back(static_cast<int32_t>(j));
      part.value.push_back(value);
      part.time.push_back(86400.0 * static_cast<double>(day) + 100);
    }
  return out;
}

FactorOptions sampling(int64_t rank, bool days) {
  FactorOptions o;
  o.solver = FactorSolver::gibbs;
  o.rank = rank;
  o.burn_in = 100;
  o.thin = 2;
  o.sweeps = 400;
  o.row_period = days ? 86400 : 0;
  return o;
}

TEST(Gibbs, IntervalsCoverWhatTheySay) {
  for (const bool days : {false, true}) {
    double inside_68 = 0, inside_95 = 0, count = 0;
    for (uint64_t seed = 1; seed <= 2; ++seed) {
      const Drawn table = drawn_table(seed, days);
      const RatingsModel model = fit_rating_factors(table.train, sampling(3, days));
      for (size_t e = 0; e < table.test.value.size(); ++e) {
        const Spread spread = model.spread(coordinates_of(model, table.test.row[e]), table.test.col[e],
                                           table.test.row[e], table.test.time[e]);
        const double off = std::abs(table.test.value[e] - spread.mean) / spread.deviation;
        inside_68 += off < 1, inside_95 += off < 1.959964, ++count;
      }
    }
    // About 4000 ratings: two standard errors are 1.5 and 0.7 %, more as those of a row share its factors.
    EXPECT_NEAR(inside_68 / count, 0.6827, 0.03) << "days " << days;
    EXPECT_NEAR(inside_95 / count, 0.95, 0.015) << "days " << days;
  }
}

TEST(Gibbs, EffectsOfPeriodsArePartOfThePrediction) {
  const Drawn table = drawn_table(7, true);
  const auto without = fit_rating_factors(table.train, sampling(3, false)),
             with = fit_rating_factors(table.train, sampling(3, true));
  EXPECT_LT(errors_of(with, table.test).rmse, 0.85 * errors_of(without, table.test).rmse);
  const auto variational = [&](bool days) {
    FactorOptions o = sampling(3, days);
    o.solver = FactorSolver::bayes;
    o.sweeps = 40;
    return errors_of(fit_rating_factors(table.train, o), table.test).rmse;
  };
  EXPECT_LT(variational(true), 0.9 * variational(false));
  Ratings timeless = table.train;
  timeless.time.clear();
  EXPECT_THROW(fit_rating_factors(timeless, sampling(3, true)), Error);
}

/// Everything that a model can hold.
FactorOptions everything() {
  FactorOptions o = sampling(2, true);
  o.sweeps = 120;
  o.thin = 10;
  o.col_period = 2 * 86400;
  o.implicit_rows = o.implicit_cols = true;
  o.ordinal = true;
  return o;
}

Ratings whole_numbers() {
  Ratings out = drawn_table(3, true).train;
  for (double& v : out.value) v = std::clamp(std::round(v), 1.0, 5.0);
  return out;
}

TEST(Gibbs, DoesNotDependOnTheNumberOfThreads) {
  const Ratings train = whole_numbers();
  FactorOptions o = everything();
  const RatingsModel one = fit_rating_factors(train, o);
  o.threads = 3;
  const RatingsModel three = fit_rating_factors(train, o);
  EXPECT_EQ(three.row_factor, one.row_factor);
  EXPECT_EQ(three.col_bias, one.col_bias);
  EXPECT_EQ(three.cutpoints, one.cutpoints);
  EXPECT_EQ(three.row_periods.value, one.row_periods.value);
}

TEST(Gibbs, ComesBackFromItsFile) {
  const Ratings train = whole_numbers();
  const RatingsModel model = fit_rating_factors(train, everything());
  EXPECT_EQ(model.draws, 2);
  const testing::TempFolder folder;
  save_ratings_model(folder.path(), model, train);
  const NamedRatingsModel back = load_ratings_model(folder.path());
  for (int64_t i = -1; i < model.rows; i += 7)
    for (int64_t j = -1; j < model.cols; j += 5) {
      ASSERT_EQ(back.model.predict(i, j, 86400.0), model.predict(i, j, 86400.0));
      ASSERT_EQ(back.model.spread(coordinates_of(model, i), j).deviation,
                model.spread(coordinates_of(model, i), j).deviation);
    }
  EXPECT_EQ(back.model.state->row_penalty, model.state->row_penalty);
  EXPECT_EQ(back.ratings().time.size(), train.time.size());
}

TEST(Gibbs, FoldsTrainedRowsInNearWhatTheyAre) {
  for (const bool ordinal : {false, true}) {
    const Ratings train = ordinal ? whole_numbers() : drawn_table(5, false).train;
    FactorOptions o = sampling(2, false);
    o.ordinal = ordinal;
    const RatingsModel model = fit_rating_factors(train, o);
    const SparseSide side = SparseSide::make(model.rows, train.row, train.col, train.value);
    double squares = 0;
    for (int64_t i = 0; i < model.rows; ++i) {
      const auto begin = static_cast<size_t>(side.begin[static_cast<size_t>(i)]),
                 count = static_cast<size_t>(side.count(i));
      const Doubles x = fold_in(model, {side.other.data() + begin, count}, {side.value.data() + begin, count});
      for (int64_t j = 0; j < model.cols; ++j)
        squares +=
            std::pow(model.predict(x, j) - model.predict(i, j), 2) / static_cast<double>(model.rows * model.cols);
    }
    EXPECT_LT(std::sqrt(squares), 0.08) << "ordinal " << ordinal;
  }
}

TEST(Gibbs, WithoutRatingsARowIsItsPrior) {
  const RatingsModel model = fit_rating_factors(whole_numbers(), everything());
  const Doubles nothing = fold_in(model, {}, {});
  const Doubles unknown = coordinates_of(model, -1);
  for (size_t k = 0; k < nothing.size(); ++k) ASSERT_NEAR(nothing[k], unknown[k], 1e-9);
}

TEST(Ordinal, PredictsWithinTheLevelsAndRefusesManyOfThem) {
  const Drawn table = drawn_table(9, false);
  FactorOptions o = sampling(2, false);
  o.ordinal = true;
  EXPECT_THROW(fit_rating_factors(table.train, o), Error) << "every rating is another value";
  Ratings train = table.train, test = table.test;
  for (Ratings* part : {&train, &test})
    for (double& v : part->value) v = v < 2 ? -1 : v < 3.5 ? 0 : 4;  // steps that a linear model takes badly
  const RatingsModel ordinal = fit_rating_factors(train, o);
  for (int64_t i = 0; i < ordinal.rows; ++i) {
    EXPECT_GE(ordinal.predict(i, 0), -1);
    EXPECT_LE(ordinal.predict(i, 0), 4);
  }
  o.ordinal = false;
  EXPECT_LT(errors_of(ordinal, test).rmse, errors_of(fit_rating_factors(train, o), test).rmse);
}

TEST(NormalDistribution, EqualsSciPy) {
  // scipy.special.ndtri
  for (const auto& [p, x] : {std::pair(1e-300, -37.0470962993612),
                             {1e-10, -6.361340902404056},
                             {0.2, -0.8416212335729142},
                             {0.5, 0.0},
                             {0.9999, 3.719016485455709}})
    EXPECT_NEAR(normal_quantile(p), x, 1e-12 * std::max(1.0, std::abs(x)));
  // scipy.stats.truncnorm.mean(a - mean, b - mean, loc=mean)
  constexpr double inf = std::numeric_limits<double>::infinity();
  EXPECT_NEAR(truncated_mean(0.5, -1, 0.25), -0.26879198968, 1e-9);
  EXPECT_NEAR(truncated_mean(0, 10, inf), 10.0980932, 1e-6);
  EXPECT_NEAR(truncated_mean(-2, -inf, -1), -2.2875999709, 1e-8);
  PortableRandom random(3);
  double sum = 0;
  for (int i = 0; i < 20000; ++i) {
    const double x = truncated_normal(0, 10, inf, random);
    ASSERT_GE(x, 10);
    sum += x / 20000;
  }
  EXPECT_NEAR(sum, 10.0980932, 0.005);
  for (const double shape : {0.5, 3.0, 40.0}) {
    double mean = 0;
    for (int i = 0; i < 20000; ++i) mean += gamma_draw(shape, random) / 20000;
    EXPECT_NEAR(mean, shape, 0.04 * std::sqrt(shape)) << shape;
  }
}

}  // namespace
}  // namespace deeplora
