#include "ratings/ratings_run.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ratings/rating_factors.h"
#include "ratings/top_scores.h"

namespace deeplora {
namespace {

std::pair<double, double> range_of(const RatingsConfig& config, const Ratings& train) {
  if (config.range) return *config.range;
  const auto [low, high] = std::minmax_element(train.value.begin(), train.value.end());
  return {*low, *high};
}

Ratings read_clean(const RatingsConfig& config, const std::filesystem::path& file, std::string_view what) {
  Ratings ratings = read_ratings(file, config.format, what);
  merge_duplicates(ratings, config.duplicates, what);
  if (config.range) apply_range(ratings, config.range->first, config.range->second, config.out_of_range, what);
  check(ratings.size() > 0, what, " ", file.string(), ": no ratings are left");
  return ratings;
}

void take_remarks(Ratings& from, std::vector<std::string>& to) {
  to.insert(to.end(), from.remarks.begin(), from.remarks.end());
  from.remarks.clear();
}

Split split_of(const RatingsConfig& config, const Ratings& ratings, double share, uint64_t seed) {
  return config.split == "time" ? time_split(ratings, share) : random_split(ratings.size(), share, seed);
}

/// Without entries of names that are not known.
Ratings known_part(const Ratings& ratings) {
  std::vector<int64_t> which;
  for (size_t i = 0; i < ratings.value.size(); ++i)
    if (ratings.row[i] >= 0 && ratings.col[i] >= 0) which.push_back(static_cast<int64_t>(i));
  return ratings.subset(which);
}

std::optional<double> time_of(const Ratings& ratings, size_t entry) {
  return ratings.time.empty() ? std::nullopt : std::optional(ratings.time[entry]);
}

/// Train and dev for one fit: a pair that both have counts once.
Ratings joined(const RatingsConfig& config, const Ratings& train, const Ratings& dev) {
  Ratings out = united(train, known_part(dev));
  merge_duplicates(out, config.duplicates, "completion.train and completion.dev");
  out.remarks.clear();
  return out;
}

FactorSolver factor_solver(const std::string& name) {
  return name == "als" ? FactorSolver::als : name == "gibbs" ? FactorSolver::gibbs : FactorSolver::bayes;
}

}  // namespace

FactorOptions factor_options(const RatingsConfig& config, const RatingsCandidate& candidate) {
  FactorOptions o;
  o.rank = candidate.rank;
  o.solver = factor_solver(candidate.solver);
  o.biases = config.biases;
  o.burn_in = config.burn_in;
  o.thin = config.thin;
  o.sweeps = o.solver == FactorSolver::gibbs ? config.burn_in + config.draws * config.thin : config.sweeps;
  o.ordinal = config.ordinal;
  o.row_period = config.row_period;
  o.col_period = config.col_period;
  o.regularization = candidate.regularization;
  o.weighted = config.weighted;
  o.on_product = config.on_product;
  o.implicit_rows = config.implicit == "rows" || config.implicit == "both";
  o.implicit_cols = config.implicit == "cols" || config.implicit == "both";
  o.implicit_regularization = config.implicit_regularization;
  o.seed = config.seed;
  o.threads = config.threads;
  return o;
}

namespace {

/// A chain of draws, of fixed length. The curve is the error of the mean over the draws so far (before the first that
/// counts: of that draw alone).
RatingsFit sample_on_dev(const RatingsConfig& config, const RatingsCandidate& candidate, const Ratings& train,
                         const Ratings& dev, const std::pair<double, double>& range,
                         const std::function<void()>& pulse) {
  FactorOptions o = factor_options(config, candidate);
  RatingsFit fit;
  std::vector<double> sum(dev.value.size(), 0.0);
  double draws = 0;
  o.pulse = pulse;
  o.look_every = o.thin;
  fit.sweeps = fit.sweeps_done = o.sweeps;
  o.after_sweep = [&](int64_t sweep, const RatingsModel& model) {
    if (sweep > o.burn_in) ++draws;
    double squares = 0;
    for (size_t e = 0; e < sum.size(); ++e) {
      const double now = model.predict(dev.row[e], dev.col[e], time_of(dev, e));
      if (draws > 0) sum[e] += now;
      const double error = std::clamp(draws > 0 ? sum[e] / draws : now, range.first, range.second) - dev.value[e];
      squares += error * error;
    }
    fit.curve.push_back(std::sqrt(squares / static_cast<double>(sum.size())));
    return true;
  };
  fit.model = fit_rating_factors(train, o);
  fit.model.range = range;
  fit.dev = errors_of(fit.model, dev);
  return fit;
}

/// Alternation until dev no longer gains; the model of the best sweep.
RatingsFit fit_on_dev(const RatingsConfig& config, const RatingsCandidate& candidate, const Ratings& train,
                      const Ratings& dev, const std::pair<double, double>& range, const std::function<void()>& pulse) {
  if (candidate.solver == "gibbs") return sample_on_dev(config, candidate, train, dev, range, pulse);
  FactorOptions o = factor_options(config, candidate);
  RatingsFit fit;
  fit.dev.rmse = std::numeric_limits<double>::infinity();
  int64_t since_best = 0;
  o.after_sweep = [&](int64_t sweep, const RatingsModel& model) {
    pulse();
    RatingsModel ranged = model;
    ranged.range = range;
    const RatingErrors errors = errors_of(ranged, dev);
    fit.curve.push_back(errors.rmse);
    fit.sweeps_done = sweep;
    // A gain too small to matter must not keep a fit going for ever.
    const bool better = errors.rmse < fit.dev.rmse * (1 - 1e-5);
    since_best = better ? 0 : since_best + 1;
    if (errors.rmse < fit.dev.rmse) {
      fit.dev = errors;
      fit.sweeps = sweep;
      fit.model = std::move(ranged);
    }
    return since_best < config.patience;
  };
  fit_rating_factors(train, o);
  return fit;
}

RatingsModel fit_exactly(const RatingsConfig& config, const RatingsCandidate& candidate, const Ratings& train,
                         int64_t sweeps, const std::function<void()>& pulse) {
  FactorOptions o = factor_options(config, candidate);
  o.sweeps = sweeps;
  o.pulse = pulse;
  return fit_rating_factors(train, o);
}

nlohmann::ordered_json candidate_json(const RatingsCandidate& candidate, const RatingsFit& fit) {
  nlohmann::ordered_json out{
      {"name", candidate.name()}, {"solver", candidate.solver}, {"rank", candidate.rank}, {"depth", candidate.depth}};
  out["regularization"] =
      candidate.regularization ? nlohmann::ordered_json(*candidate.regularization) : nlohmann::ordered_json();
  out["rmse"] = fit.dev.rmse;
  out["mae"] = fit.dev.mae;
  out["sweeps"] = fit.sweeps;
  out["curve"] = fit.curve;
  return out;
}

/// One choice among the grid: state that the steps share.
class Choice {
 public:
  Choice(const RatingsConfig& config, const RatingsCallbacks& callbacks, std::string place)
      : config_(config), callbacks_(callbacks), place_(std::move(place)) {}

  RatingsOutcome run(const Ratings& train, const Ratings& dev, const Ratings& everything) {
    range_ = range_of(config_, everything);
    fit_baselines(train);
    const RatingErrors bias = errors_of(out_.bias, dev);
    try_grid(train, dev);
    out_.dev = score_ratings(config_, out_, dev, train);
    out_.low_rank_helps = out_.fit.dev.rmse < bias.rmse;
    if (config_.refit_on_dev) fit_baselines(everything);
    if (!out_.low_rank_helps) {
      out_.fit.model = out_.bias;  // never worse than the baseline: the baseline itself
      out_.fit.sweeps = 0;
      out_.dev.model = out_.dev.bias;
    } else if (config_.refit_on_dev) {
      refit(everything);
    }
    return std::move(out_);
  }

  /// One candidate whose fit needs no dev ratings.
  RatingsOutcome run_alone(const Ratings& train) {
    range_ = range_of(config_, train);
    fit_baselines(train);
    out_.chosen = config_.grid.front();
    out_.low_rank_helps = true;
    out_.fit = callbacks_.kept(cat(place_, "/", out_.chosen.name()), [&]() -> RatingsFit {
      const int64_t sweeps = factor_options(config_, out_.chosen).sweeps;
      return {.model = fit_exactly(config_, out_.chosen, train, sweeps, callbacks_.pulse),
              .sweeps = sweeps,
              .sweeps_done = sweeps,
              .dev = {},
              .curve = {}};
    });
    out_.fit.model.range = range_;
    out_.sweeps = out_.fit.sweeps;
    out_.candidates = nlohmann::ordered_json::array({candidate_json(out_.chosen, out_.fit)});
    out_.candidates[0]["rmse"] = out_.candidates[0]["mae"] = nullptr;
    return std::move(out_);
  }

 private:
  void fit_baselines(const Ratings& ratings) {
    out_.fitted_on = ratings.size();
    out_.mean = fit_mean(ratings);
    out_.bias = fit_biases(ratings, {.row_penalty = config_.row_bias_penalty, .col_penalty = config_.col_bias_penalty});
    out_.mean.range = out_.bias.range = range_;
  }

  void try_grid(const Ratings& train, const Ratings& dev) {
    out_.fit.dev.rmse = std::numeric_limits<double>::infinity();
    out_.candidates = nlohmann::ordered_json::array();
    for (const auto& candidate : config_.grid) {
      RatingsFit fit = callbacks_.kept(cat(place_, "/", candidate.name()), [&] {
        return candidate.solver == "chain"
                   ? callbacks_.chain(train, &dev, config_.biases ? out_.bias : out_.mean, candidate, 0)
                   : fit_on_dev(config_, candidate, train, dev, range_, callbacks_.pulse);
      });
      out_.candidates.push_back(candidate_json(candidate, fit));
      out_.sweeps += fit.sweeps_done;
      callbacks_.note(cat(candidate.name(), ": dev rmse ", fit.dev.rmse, ", mae ", fit.dev.mae, " after ", fit.sweeps,
                          candidate.solver == "chain" ? " iterations" : " sweeps"));
      if (!(fit.dev.rmse < out_.fit.dev.rmse)) continue;
      out_.fit = std::move(fit);
      out_.chosen = candidate;
    }
    check(std::isfinite(out_.fit.dev.rmse),
          "no candidate of completion.grid reached a finite error; use more regularization or a lower completion.lr");
  }

  void refit(const Ratings& everything) {
    const int64_t sweeps = out_.fit.sweeps;
    RatingsFit fit = callbacks_.kept(place_ + "/refit", [&]() -> RatingsFit {
      if (out_.chosen.solver == "chain")
        return callbacks_.chain(everything, nullptr, config_.biases ? out_.bias : out_.mean, out_.chosen, sweeps);
      return {.model = fit_exactly(config_, out_.chosen, everything, sweeps, callbacks_.pulse),
              .sweeps = sweeps,
              .sweeps_done = sweeps,
              .dev = {},
              .curve = {}};
    });
    out_.fit.model = std::move(fit.model);
    out_.fit.model.range = range_;
    out_.sweeps += sweeps;
  }

  const RatingsConfig& config_;
  const RatingsCallbacks& callbacks_;
  const std::string place_;
  std::pair<double, double> range_;
  RatingsOutcome out_;
};

}  // namespace

Ratings RatingsData::known_before_test() const { return dev ? united(train, known_part(*dev)) : train; }

Ratings RatingsData::seen() const {
  const Ratings known = known_before_test();
  return test ? united(known, known_part(*test)) : known;
}

namespace {

/// A remark about pairs that a part shares with what is trained on; an Error where pairs are to be given once.
void say_overlap(const RatingsConfig& config, int64_t overlap, const Ratings& part, const std::string& what,
                 const std::string& with, RatingsData& data) {
  if (overlap == 0) return;
  const std::string met =
      cat(what, ": ", overlap, " of ", part.size(), " ratings are of pairs that ", with, " holds too");
  check(config.duplicates != Duplicates::error, met,
        "; expected each pair once (completion.duplicates: last or mean takes them)");
  data.remarks.push_back(cat(met, "; on those the model is not scored on anything new"));
}

/// Every part over the names of all; a pair that two have counts once.
Ratings all_ratings(const RatingsConfig& config, Ratings all, const std::vector<Ratings>& further) {
  for (const auto& part : further) all = united(all, part);
  merge_duplicates(all, config.duplicates, "all ratings");
  all.remarks.clear();
  return all;
}

}  // namespace

RatingsData load_ratings(const RatingsConfig& config) {
  RatingsData data;
  data.train = read_clean(config, config.train, "completion.train");
  take_remarks(data.train, data.remarks);
  std::vector<Ratings> as_read;
  const auto other = [&](const std::filesystem::path& file, std::string_view what) {
    Ratings ratings = read_clean(config, file, what);
    if (config.refit_all) as_read.push_back(ratings);
    align(ratings, data.train.rows, data.train.cols, what);
    take_remarks(ratings, data.remarks);
    return ratings;
  };
  if (!config.dev.empty()) data.dev = other(config.dev, "completion.dev");
  if (!config.test.empty()) data.test = other(config.test, "completion.test");
  if (data.dev) {
    data.dev_overlap = overlap_of(data.train, *data.dev);
    say_overlap(config, data.dev_overlap, *data.dev, "completion.dev", "completion.train", data);
  }
  if (data.test) {
    data.test_overlap = overlap_of(data.dev ? united(data.train, known_part(*data.dev)) : data.train, *data.test);
    say_overlap(config, data.test_overlap, *data.test, "completion.test",
                data.dev ? "completion.train or completion.dev" : "completion.train", data);
  }
  if (config.refit_all) data.all = all_ratings(config, data.train, as_read);
  if (config.test_share > 0) {
    const Split split = split_of(config, data.train, config.test_share, config.seed);
    data.test = data.train.subset(split.held_out);
    data.train = data.train.subset(split.train);
  }
  if (!data.dev && config.split == "time" && config.dev_share > 0)
    time_split(data.train, config.dev_share);  // what has no times is said before any work
  return data;
}

RatingsOutcome choose_ratings_model(const RatingsConfig& config, const Ratings& train,
                                    const std::optional<Ratings>& dev, const RatingsCallbacks& callbacks,
                                    const std::string& place) {
  Choice choice(config, callbacks, place);
  if (dev) return choice.run(train, *dev, joined(config, train, *dev));
  if (config.dev_share <= 0) return choice.run_alone(train);
  // A stream of its own, so that dev is not what test was drawn as.
  const Split split = split_of(config, train, config.dev_share, config.seed + 0x5eed);
  return choice.run(train.subset(split.train), train.subset(split.held_out), train);
}

RatingsModel fit_on_all(const RatingsConfig& config, const RatingsOutcome& outcome, const Ratings& all,
                        const RatingsCallbacks& callbacks) {
  RatingsModel bias = fit_biases(all, {.row_penalty = config.row_bias_penalty, .col_penalty = config.col_bias_penalty});
  bias.range = range_of(config, all);
  if (!outcome.low_rank_helps) return bias;
  const int64_t sweeps = outcome.fit.sweeps;
  RatingsFit fit = callbacks.kept("all/on-all", [&]() -> RatingsFit {
    if (outcome.chosen.solver == "chain") {
      RatingsModel mean = fit_mean(all);
      mean.range = bias.range;
      return callbacks.chain(all, nullptr, config.biases ? bias : mean, outcome.chosen, sweeps);
    }
    return {.model = fit_exactly(config, outcome.chosen, all, sweeps, callbacks.pulse),
            .sweeps = sweeps,
            .sweeps_done = sweeps,
            .dev = {},
            .curve = {}};
  });
  fit.model.range = bias.range;
  return fit.model;
}

std::vector<FoldScores> cross_validate(const RatingsConfig& config, const Ratings& ratings,
                                       const RatingsCallbacks& callbacks) {
  std::vector<FoldScores> out;
  for (const Split& fold : k_folds(ratings.size(), config.folds, config.seed)) {
    const Ratings train = ratings.subset(fold.train);
    const RatingsOutcome outcome =
        choose_ratings_model(config, train, std::nullopt, callbacks, cat("fold-", out.size() + 1));
    out.push_back({outcome.chosen, outcome.low_rank_helps, outcome.sweeps,
                   score_ratings(config, outcome, ratings.subset(fold.held_out), train)});
    const auto& [mean, bias, model, count] = out.back().scores;
    callbacks.note(cat("fold ", out.size(), " of ", config.folds, ": rmse ", model.rmse, ", mae ", model.mae,
                       " (bias baseline ", bias.rmse, ", ", bias.mae, ")"));
  }
  return out;
}

RatingsScores score_ratings(const RatingsConfig& config, const RatingsOutcome& outcome, const Ratings& ratings,
                            const Ratings& known) {
  RatingsScores out{errors_of(outcome.mean, ratings), errors_of(outcome.bias, ratings),
                    errors_of(outcome.fit.model, ratings), ratings.size()};
  if (config.ranking_at == 0) return out;
  const double relevant = config.ranking_relevant.value_or(outcome.mean.mean);
  const auto top = [&](const RatingsModel& model) {
    return top_scores(model, ratings, known, config.ranking_at, relevant, config.threads);
  };
  out.bias.top = top(outcome.bias);
  out.model.top = top(outcome.fit.model);
  return out;
}

nlohmann::ordered_json errors_json(const RatingErrors& errors) {
  nlohmann::ordered_json out{{"rmse", errors.rmse}, {"mae", errors.mae}};
  if (!errors.top) return out;
  const TopScores& top = *errors.top;
  for (const auto& [name, value] : {std::pair("precision", top.precision),
                                    {"recall", top.recall},
                                    {"ndcg", top.ndcg},
                                    {"map", top.map},
                                    {"coverage", top.coverage}})
    out[cat(name, "@", top.k)] = value;
  return out;
}

}  // namespace deeplora
