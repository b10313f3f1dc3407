#include "rate_search.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "core/log.h"
#include "core/scratch_folder.h"
#include "core/yaml_value.h"
#include "train/data_order.h"

namespace deeplora {
namespace {

/// Two significant digits, as people write rates.
double rounded_rate(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2g", value);
  return std::strtod(text, nullptr);
}

std::map<std::string, torch::Tensor> copy_of(const std::vector<NamedTensor>& state) {
  std::map<std::string, torch::Tensor> out;
  for (const auto& [name, value] : state) out.emplace(name, value.detach().clone());
  return out;
}

RateTrial run_trial(Session& s, const LoadedData& dev, double lr, int64_t steps, const StopSignal* stop,
                    RateSearch& search) {
  const ScratchFolder scratch("lr");
  RunFolder folder = RunFolder::create(scratch.path() / "trial");
  TrainConfig config = s.config.train;
  config.lr = lr;
  config.steps = config.eval_every = steps;
  config.save_every.reset();
  config.early_stopping = 0;
  const HeadRates head = head_rates_at(s.config, lr);
  Trainer trainer(
      {.model = s.model(),
       .task = s.task(),
       .groups = s.adapted->param_groups(head.made / lr, head.own / lr),
       .config = config,
       .device = s.device,
       .bf16 = s.in_bfloat16(),
       .save_adapter = [](const std::filesystem::path& file) { write_file_atomically(file, "a trial keeps none"); },
       .stop = stop,
       .progress = false});
  RateTrial trial;
  trial.lr = lr;
  trial.steps = steps;
  try {
    const TrainResult result = trainer.run(s.train.examples, dev.examples, folder, false);
    const Scores& scores = result.last.value().scores;
    search.metric = scores.headline_name();
    search.higher_is_better = scores.higher_is_better;
    if (std::isfinite(scores.headline())) trial.score = scores.headline();
    for (const auto& [name, value] : scores.values)
      if (name == "loss" && std::isfinite(value)) trial.loss = value;
  } catch (const Diverged&) {
    trial.score.reset();
  } catch (const Interrupted&) {
    throw Interrupted(
        "stopped while train.lr: auto was looking for a learning rate; nothing is saved yet, begin again");
  }
  return trial;
}

}  // namespace

nlohmann::ordered_json RateSearch::json() const {
  nlohmann::ordered_json out{{"lr", lr},
                             {"metric", metric},
                             {"higher_is_better", higher_is_better},
                             {"trials", nlohmann::ordered_json::array()}};
  for (const auto& trial : trials) {
    nlohmann::ordered_json row{{"lr", trial.lr}, {"score", nullptr}, {"steps", trial.steps}};
    if (trial.score) row["score"] = *trial.score;
    out["trials"].push_back(std::move(row));
  }
  return out;
}

RateSearch RateSearch::read(const OrderedJsonFile& json) {
  RateSearch out{json.at<std::string>("metric"), json.at<bool>("higher_is_better"), {}, json.at<double>("lr")};
  check(out.lr > 0 && std::isfinite(out.lr), json.name, ": lr: expected a number above 0, found ", out.lr);
  check(json.has("trials") && json.root["trials"].is_array(), json.name, ": trials: expected a list");
  for (const auto& row : json.root["trials"]) {
    const OrderedJsonFile trial{json.name + ": trials", row};
    out.trials.push_back({trial.at<double>("lr"), std::nullopt, std::nullopt, trial.at<int64_t>("steps")});
    if (trial.has("score") && trial.root["score"].is_number()) out.trials.back().score = trial.at<double>("score");
  }
  return out;
}

std::vector<double> rates_around(double default_lr) {
  std::vector<double> out;
  for (const double power : {-1.0, -0.5, 0.0, 0.5, 1.0})
    out.push_back(power == 0 ? default_lr : rounded_rate(default_lr * std::pow(10.0, power)));
  return out;
}

int64_t trial_steps(int64_t total_steps) {
  return std::min<int64_t>(total_steps, std::clamp<int64_t>(total_steps / 5, 10, 100));
}

bool is_better(const RateTrial& a, const RateTrial& b, bool higher_is_better) {
  if (!a.score || !b.score) return a.score.has_value() && !b.score;
  if (*a.score != *b.score) return (*a.score > *b.score) == higher_is_better;
  return a.loss && b.loss && *a.loss < *b.loss;
}

RateSearch search_rate(Session& session, const LoadedData& dev, const StopSignal* stop) {
  const auto start = copy_of(session.adapted->state());
  const int64_t steps = trial_steps(DataOrder(session.config.train, session.train.examples,
                                              session.task().rows_of_batch(session.config.train.batch_size))
                                        .total_steps());
  RateSearch out;
  for (const double lr : rates_around(session.config.train.lr.value())) {
    out.trials.push_back(run_trial(session, dev, lr, steps, stop, out));
    session.adapted->load_state(start, "the start of the run");
    const auto& score = out.trials.back().score;
    log_info("train.lr: auto: ", number_text(lr), ": ",
             score ? cat(out.metric, " ", number_text(*score)) : std::string("diverged"), " after ", steps, " steps");
  }
  const auto better = [&](const RateTrial& a, const RateTrial& b) { return is_better(a, b, out.higher_is_better); };
  const auto best = std::min_element(out.trials.begin(), out.trials.end(), better);
  check(best->score.has_value(), "train.lr: auto: every learning rate from ", number_text(out.trials.front().lr),
        " to ", number_text(out.trials.back().lr), " diverged or has no defined score on dev; give train.lr a number");
  out.lr = best->lr;
  log_info("train.lr: auto: ", number_text(out.lr), " is best on dev",
           best == out.trials.begin() || best + 1 == out.trials.end() ? ", at the edge of what was tried" : "");
  return out;
}

}  // namespace deeplora
