#include "complete_ratings.h"

#include <torch/version.h>

#include <cmath>
#include <iomanip>
#include <iostream>

#include "core/files.h"
#include "core/log.h"
#include "core/parallel.h"
#include "deeplora_version.h"
#include "figure_files.h"
#include "kept_fits.h"
#include "ratings/chain_ratings.h"
#include "ratings/ratings_file.h"
#include "ratings_report.h"
#include "core/number_text.h"
#include "train/checkpoint.h"

namespace deeplora {
namespace {

using Json = nlohmann::ordered_json;

RatingsCallbacks make_callbacks(const RatingsConfig& config, const CompletionConfig& common, const StopSignal& stop,
                                const KeptFits& fits) {
  RatingsCallbacks out;
  out.note = [](const std::string& line) { log_info(line); };
  out.pulse = [&stop] {
    if (stop.requested())
      throw Interrupted("stopped by a signal; finished fits are kept, --resume goes on with the one that was cut off");
  };
  out.chain = [&config, &common, pulse = out.pulse](const Ratings& train, const Ratings* dev,
                                                    const RatingsModel& biases, const RatingsCandidate& candidate,
                                                    int64_t iterations) {
    return fit_rating_chain(train, dev, biases, candidate, iterations, common, config.patience, pulse);
  };
  out.kept = [&fits](const std::string& name, const std::function<RatingsFit()>& make) { return fits(name, make); };
  return out;
}

Json mean_and_deviation(const std::vector<double>& values) {
  double mean = 0, square = 0;
  for (const double v : values) mean += v / static_cast<double>(values.size());
  for (const double v : values) square += (v - mean) * (v - mean);
  return {{"mean", mean}, {"sd", std::sqrt(square / static_cast<double>(std::max<size_t>(1, values.size() - 1)))}};
}

Json candidate_json(const RatingsCandidate& c) {
  Json out{{"solver", c.solver}, {"rank", c.rank}, {"depth", c.depth}};
  out["regularization"] = c.regularization ? Json(*c.regularization) : Json();
  return out;
}

/// Every fold, and mean and standard deviation over folds of the three models' errors.
Json folds_json(const std::vector<FoldScores>& folds) {
  Json out{{"folds", Json::array()}};
  for (const auto& fold : folds)
    out["folds"].push_back(
        {{"chosen", candidate_json(fold.chosen)},
         {"low_rank_helps", fold.low_rank_helps},
         {"ratings", fold.scores.count},
         {"test", errors_json(fold.scores.model)},
         {"baselines", {{"mean", errors_json(fold.scores.mean)}, {"bias", errors_json(fold.scores.bias)}}}});
  const auto over = [&](const auto& part) {
    std::vector<double> rmse, mae;
    for (const auto& fold : folds) rmse.push_back(part(fold.scores).rmse), mae.push_back(part(fold.scores).mae);
    return Json{{"rmse", mean_and_deviation(rmse)}, {"mae", mean_and_deviation(mae)}};
  };
  out["model"] = over([](const RatingsScores& s) { return s.model; });
  out["mean"] = over([](const RatingsScores& s) { return s.mean; });
  out["bias"] = over([](const RatingsScores& s) { return s.bias; });
  return out;
}

/// Adds the n-th part of a fold's scores.
void add_top(std::optional<TopScores>& sum, const TopScores& top, double n) {
  if (!sum) sum = TopScores{.k = top.k, .relevant = top.relevant};
  for (auto score :
       {&TopScores::precision, &TopScores::recall, &TopScores::ndcg, &TopScores::map, &TopScores::coverage})
    (*sum).*score += top.*score / n;
  sum->rows += top.rows;
}

/// Averages over the folds, as if one test set had been scored.
RatingsScores average(const std::vector<FoldScores>& folds) {
  RatingsScores out;
  const double n = static_cast<double>(folds.size());
  const auto add = [n](RatingErrors& sum, const RatingErrors& e) {
    sum.rmse += e.rmse / n, sum.mae += e.mae / n;
    if (e.top) add_top(sum.top, *e.top, n);
  };
  for (const auto& fold : folds) {
    add(out.mean, fold.scores.mean);
    add(out.bias, fold.scores.bias);
    add(out.model, fold.scores.model);
    out.count += fold.scores.count;
  }
  return out;
}

struct RatingsRun {
  RatingsData data;
  std::vector<FoldScores> folds;
  RatingsOutcome outcome;
  std::optional<RatingsScores> test;
  std::vector<std::string> remarks;
  RatingsModel kept;         ///< what the run hands out: the chosen fit, or one on all ratings
  int64_t kept_ratings = 0;  ///< that it was fitted on
  Json data_identity;
  int64_t threads = 1;
  double seconds = 0, fit_seconds = 0;
  int64_t iterations = 0;

  /// Test scores where there are any, else dev.
  const RatingsScores& headline() const { return test ? *test : outcome.dev; }
  bool beats_bias() const { return headline().model.rmse < headline().bias.rmse; }
};

/// What came out, in words: never a success that is worse than the biases.
std::string verdict(const RatingsRun& run) {
  const RatingsScores& s = run.headline();
  const std::string where =
      run.test ? (run.folds.empty() ? "on the test ratings" : "over the folds") : "on the dev ratings";
  if (!run.outcome.low_rank_helps)
    return "low rank adds nothing over the biases on held-out ratings: the model kept is the bias baseline";
  if (!run.beats_bias())
    return cat("the chosen factors are no better than the bias baseline ", where, " (rmse ", s.model.rmse, " against ",
               s.bias.rmse, "): use the biases alone, or try more regularization, a lower rank or more ratings");
  return cat("factors lower the bias baseline's rmse by ", std::round(1e4 * (1 - s.model.rmse / s.bias.rmse)) / 100,
             " % ", where);
}

Json result_json(const RatingsRun& run, const RatingsConfig& config) {
  const RatingsScores& s = run.headline();
  Json out{{"task", "completion"}, {"method", run.outcome.low_rank_helps ? run.outcome.chosen.solver : "bias"}};
  out["best"] = run.outcome.dev.count > 0 ? errors_json(run.outcome.dev.model) : Json::object();
  out["best"]["step"] = run.outcome.fit.sweeps;
  out["test"] = run.test ? errors_json(run.test->model) : Json::object();
  out["baselines"] = {{"mean", errors_json(s.mean)}, {"bias", errors_json(s.bias)}};
  out["baselines_on"] = run.test ? (run.folds.empty() ? "test" : "folds") : "dev";
  out["low_rank_helps"] = run.outcome.low_rank_helps;
  out["beats_bias"] = run.outcome.low_rank_helps && run.beats_bias();
  out["verdict"] = verdict(run);
  out["chosen"] = run.outcome.low_rank_helps ? candidate_json(run.outcome.chosen) : Json();
  out["candidates"] = run.outcome.candidates;
  for (auto& candidate : out["candidates"]) candidate.erase("curve");
  if (!run.folds.empty()) out["cross_validation"] = folds_json(run.folds);
  out["rows"] = run.kept.rows;
  out["cols"] = run.kept.cols;
  out["ratings"] = {{"train", run.data.train.size()},
                    {"dev", run.outcome.dev.count},
                    {"test", run.test ? run.test->count : 0},
                    {"kept_model", run.kept_ratings}};
  out["overlap"] = {{"dev", run.data.dev_overlap}, {"test", run.data.test_overlap}};
  if (s.model.top)
    out["ranking"] = {{"at", s.model.top->k}, {"relevant", s.model.top->relevant}, {"rows", s.model.top->rows}};
  out["range"] = {run.kept.range->first, run.kept.range->second};
  out["split"] = config.split;
  out["data"] = run.data_identity;
  out["remarks"] = run.remarks;
  out["iterations"] = run.iterations;
  out["threads"] = run.threads;
  out["seconds"] = run.seconds;
  out["seconds_per_iteration"] = run.iterations > 0 ? run.fit_seconds / static_cast<double>(run.iterations) : 0;
  out["peak_rss_mb"] = peak_memory_mb();
  out["deeplora"] = kVersion;
  out["libtorch"] = TORCH_VERSION;
  return out;
}

void print_summary(const RatingsRun& run, const RunFolder& folder) {
  const auto line = [](const char* name, const RatingErrors& e) {
    std::cout << std::left << std::setw(16) << name << "rmse " << std::fixed << std::setprecision(4) << e.rmse
              << "  mae " << e.mae << "\n";
  };
  const RatingsScores& s = run.headline();
  std::cout << (run.test ? (run.folds.empty() ? "test" : "mean over folds") : "dev") << ", " << s.count << " ratings\n";
  line("mean baseline", s.mean);
  line("bias baseline", s.bias);
  line(run.outcome.low_rank_helps ? run.outcome.chosen.solver.c_str() : "kept: bias", s.model);
  if (run.kept_ratings > run.outcome.fitted_on)
    std::cout << "the model kept is fitted on all " << run.kept_ratings << " ratings (refit: all)\n";
  if (s.model.top)
    std::cout << "best " << s.model.top->k << " of each row: precision " << s.model.top->precision << ", recall "
              << s.model.top->recall << ", ndcg " << s.model.top->ndcg << ", map " << s.model.top->map << ", coverage "
              << s.model.top->coverage << " (" << s.model.top->rows << " rows; relevant: ratings from "
              << s.model.top->relevant << ")\n";
  std::cout << verdict(run) << "\nrun      " << folder.path().string() << "\nreport   " << folder.report_file().string()
            << "\n";
}

void announce(const RatingsRun& run) {
  for (const auto& remark : run.remarks) log_warning(remark);
  const auto& train = run.data.train;
  const double cells = static_cast<double>(train.rows.size()) * static_cast<double>(train.cols.size());
  log_info("ratings: ", train.size(), " of ", train.rows.size(), " rows x ", train.cols.size(), " columns (",
           100 * static_cast<double>(train.size()) / cells, " %)");
}

void write_metrics(const RatingsRun& run, RunFolder& folder) {
  for (const auto& candidate : run.outcome.candidates) {
    const auto& curve = candidate["curve"];
    for (size_t i = 0; i < curve.size(); ++i)
      folder.append_metrics({{"step", i + 1}, {"candidate", candidate["name"]}, {"eval", {{"rmse", curve[i]}}}});
  }
}

/// Whether the files of a configuration are all there.
bool files_exist(const RatingsConfig& config) {
  std::error_code ignored;
  for (const auto& file : {config.train, config.dev, config.test})
    if (!file.empty() && !std::filesystem::exists(file, ignored)) return false;
  return true;
}

/// Places of the files of a resolved configuration.
std::vector<std::pair<std::string, std::string>> places_in(const std::string& resolved) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto& setting : settings_of(resolved))
    if (places_of_ratings().count(setting.first)) out.push_back(setting);
  return out;
}

/// A run may be killed after its last file: its result stands, unless it was asked for with other settings or other
/// ratings.
void resume_finished(const RatingsConfig& config, RunFolder& folder, const std::string& resolved) {
  const std::string saved = read_file(folder.config_file());
  check_same_identity(ratings_settings(saved), ratings_settings(resolved));
  const Json result = Json::parse(read_file(folder.result_file()), nullptr, /*allow_exceptions=*/false);
  const bool same_places = places_in(saved) == places_in(resolved);
  if (result.is_object() && result.contains("data") && (!same_places || files_exist(config)))
    check_same_identity(result["data"], data_identity(load_ratings(config)));
  folder.lock();
  KeptFits::remove(folder.path());
  log_info(folder.path().string(), ": this run is finished; use it with --predict, --top, --fold-in or --export");
}

/// The model that the run hands out, after everything is scored.
void choose_kept_model(RatingsRun& run, const RatingsConfig& config, const RatingsCallbacks& callbacks) {
  run.kept = run.outcome.fit.model;
  run.kept_ratings = run.outcome.fitted_on;
  const bool of_all_already = !run.data.dev && !run.data.test && config.refit_on_dev;
  if (!run.data.all || of_all_already) return;
  run.kept = fit_on_all(config, run.outcome, *run.data.all, callbacks);
  run.kept_ratings = run.data.all->size();
  if (run.outcome.low_rank_helps) run.iterations += run.outcome.fit.sweeps;
}

/// Where the run came from: the command that makes it again, and its files.
std::vector<std::pair<std::string, std::string>> facts_of(const RatingsConfig& config, const Json& result,
                                                          const RunFolder& folder) {
  std::vector<std::pair<std::string, std::string>> out{
      {"command", cat("deeplora complete ", folder.config_file().string(), " --run AGAIN")}};
  for (const auto& [part, path] : {std::pair{"train", config.train}, {"dev", config.dev}, {"test", config.test}})
    if (!path.empty()) out.emplace_back(cat(part, " file"), path.string());
  for (const auto& [part, count] : result["ratings"].items())
    out.emplace_back(part == "kept_model" ? "ratings of the model that is kept" : cat(part, " ratings"),
                     with_commas(count.get<size_t>()));
  return out;
}

}  // namespace

std::optional<RatingsConfig> read_ratings_config(const Config& completion, const CompletionConfig& common) {
  if (!completion.has("train")) return std::nullopt;
  const int64_t threads = common.fit.threads > 0 ? common.fit.threads : default_threads();
  return RatingsConfig::read(completion, common.chain.rank, common.chain.depth, common.fit.seed, threads);
}

void complete_ratings(const RatingsConfig& config, const CompletionConfig& common, const std::string& resolved,
                      RunFolder& folder) {
  if (folder.finished()) return resume_finished(config, folder, resolved);
  const double began = clock_seconds();
  StopSignal stop;
  RatingsRun run;
  run.data = load_ratings(config);
  run.remarks = run.data.remarks;
  run.data_identity = data_identity(run.data);
  run.threads = config.threads;
  announce(run);
  folder.lock();  // before the work, so that a second process does not do it in vain
  const KeptFits fits(folder.path(), ratings_identity(resolved, run.data));
  folder.write(folder.config_file(), resolved);
  folder.truncate_metrics(0);  // of a run that was killed while it wrote them
  const RatingsCallbacks callbacks = make_callbacks(config, common, stop, fits);
  const double fitting = clock_seconds();
  if (config.folds > 0) {
    run.folds = cross_validate(config, run.data.train, callbacks);
    run.test = average(run.folds);
  }
  run.outcome = choose_ratings_model(config, run.data.train, run.data.dev, callbacks);
  run.fit_seconds = clock_seconds() - fitting;
  run.iterations = run.outcome.sweeps;
  for (const auto& fold : run.folds) run.iterations += fold.sweeps;
  if (run.data.test) run.test = score_ratings(config, run.outcome, *run.data.test, run.data.known_before_test());
  choose_kept_model(run, config, callbacks);
  run.seconds = clock_seconds() - began;
  if (!run.outcome.low_rank_helps || !run.beats_bias()) log_warning(verdict(run));
  write_metrics(run, folder);
  save_ratings_model(folder.path(), run.kept, run.data.all ? *run.data.all : run.data.seen(), {{"deeplora", kVersion}});
  const Json result = result_json(run, config);
  const Page page =
      ratings_report(result, run.outcome.candidates, common.title, facts_of(config, result, folder), resolved);
  folder.write(folder.report_file(), page.html());
  write_figures(folder.path(), page);
  folder.write(folder.result_file(), result.dump(2) + "\n");
  KeptFits::remove(folder.path());
  print_summary(run, folder);
}

}  // namespace deeplora
