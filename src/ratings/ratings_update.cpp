#include "ratings/ratings_update.h"

#include <algorithm>

namespace deeplora {
namespace {

/// The run's range, widened by ratings beyond it unless it was declared.
std::pair<double, double> widened_range(const RatingsConfig& config, const RatingsModel& model, const Ratings& all) {
  if (config.range) return *config.range;
  const auto [low, high] = std::minmax_element(all.value.begin(), all.value.end());
  if (!model.range) return {*low, *high};
  return {std::min(*low, model.range->first), std::max(*high, model.range->second)};
}

RatingsModel gone_on(const NamedRatingsModel& run, const RatingsConfig& config, const RatingsCandidate& chosen,
                     const std::function<void()>& pulse, RatingsUpdate& out) {
  check(chosen.solver != "chain",
        "--update: a fit by solver: chain cannot go on with other ratings; train again on all of them, or use solver: "
        "bayes, gibbs or als");
  check(run.model.state.has_value(),
        "--update: the run does not hold what its fit would go on from, as runs of older "
        "versions do not; train it again");
  FactorOptions o = factor_options(config, chosen);
  o.from = &run.model;
  o.burn_in = config.update_sweeps;
  o.sweeps = o.solver == FactorSolver::gibbs ? o.burn_in + config.draws * config.thin : config.update_sweeps;
  o.pulse = pulse;
  out.sweeps = o.sweeps;
  return fit_rating_factors(out.all, o);
}

}  // namespace

RatingsUpdate update_ratings(const NamedRatingsModel& run, const Ratings& given, const RatingsConfig& config,
                             const RatingsCandidate& chosen, const std::function<void()>& pulse) {
  RatingsUpdate out;
  const Ratings before = run.ratings();
  check(before.time.empty() || !given.time.empty() || (config.row_period <= 0 && config.col_period <= 0),
        "--update: the run has effects of periods (completion.periods); expected a time for every rating, found none");
  out.given = given.size();
  out.all = united(before, given);
  const int64_t together = out.all.size();
  merge_duplicates(out.all, config.duplicates, "--update and the run's ratings");
  out.remarks.swap(out.all.remarks);
  out.replaced = together - out.all.size();
  out.new_rows = out.all.rows.size() - before.rows.size();
  out.new_cols = out.all.cols.size() - before.cols.size();
  if (run.model.rank > 0) out.model = gone_on(run, config, chosen, pulse, out);
  else
    out.model = fit_biases(out.all, {.row_penalty = config.row_bias_penalty, .col_penalty = config.col_bias_penalty});
  out.model.range = widened_range(config, run.model, out.all);
  return out;
}

}  // namespace deeplora
