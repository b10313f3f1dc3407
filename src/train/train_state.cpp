#include "train/train_state.h"

#include <cmath>
#include <limits>

namespace deeplora {
namespace {

using Json = nlohmann::ordered_json;

Json number(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

double number_from(const Json& json, const std::string& where) {
  if (json == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (json == "inf") return std::numeric_limits<double>::infinity();
  return json == "-inf" ? -std::numeric_limits<double>::infinity() : json_as<double>(json, where);
}

Json evaluation(const std::optional<StepScores>& evaluation) {
  if (!evaluation) return nullptr;
  Json scores = Json::array();
  for (const auto& [name, value] : evaluation->scores.values) scores.push_back({name, number(value)});
  return {{"step", evaluation->step}, {"scores", scores}, {"higher_is_better", evaluation->scores.higher_is_better}};
}

std::optional<StepScores> evaluation_from(const OrderedJsonFile& state, const std::string& key) {
  if (!state.has(key)) return std::nullopt;
  const OrderedJsonFile json = state.section(key);
  StepScores out;
  out.step = json.at<int64_t>("step");
  out.scores.higher_is_better = json.at<bool>("higher_is_better");
  const std::string where = json.name + ": scores";
  for (const Json& score : json_member(json.root, "scores", json.name)) {
    check(score.is_array() && score.size() == 2, where, ": expected pairs of name and value, found ", shown(score));
    out.scores.values.emplace_back(json_as<std::string>(score[0], where), number_from(score[1], where));
  }
  check(!out.scores.values.empty(), where, ": expected at least one score, found none");
  return out;
}

}  // namespace

Json to_json(const TrainState& state) {
  return {{"step", state.step},
          {"epoch", state.epoch},
          {"position", state.position},
          {"samples", state.samples},
          {"moving_steps", state.moving_steps},
          {"evaluation_due", state.evaluation_due},
          {"evaluations_since_best", state.evaluations_since_best},
          {"best", evaluation(state.best)},
          {"last", evaluation(state.last)},
          {"seconds", number(state.seconds)},
          {"training_seconds", number(state.training_seconds)},
          {"seconds_to_first_step", number(state.seconds_to_first_step)},
          {"last_loss", number(state.last_loss)},
          {"window_loss", number(state.window_loss)},
          {"window_count", number(state.window_count)},
          {"metrics_bytes", state.metrics_bytes}};
}

TrainState train_state_from(const OrderedJsonFile& json) {
  TrainState state;
  const auto count = [&json](const char* key, int64_t& out) {
    out = json.at<int64_t>(key);
    check(out >= 0, json.name, ": ", key, ": expected a count, found ", out);
  };
  const auto number_at = [&json](const char* key) {
    return number_from(json_member(json.root, key, json.name), cat(json.name, ": ", key));
  };
  count("step", state.step);
  count("epoch", state.epoch);
  count("position", state.position);
  count("samples", state.samples);
  count("moving_steps", state.moving_steps);
  state.evaluation_due = json.at<bool>("evaluation_due");
  count("evaluations_since_best", state.evaluations_since_best);
  state.best = evaluation_from(json, "best");
  state.last = evaluation_from(json, "last");
  state.seconds = number_at("seconds");
  state.training_seconds = number_at("training_seconds");
  state.seconds_to_first_step = number_at("seconds_to_first_step");
  state.last_loss = number_at("last_loss");
  state.window_loss = number_at("window_loss");
  state.window_count = number_at("window_count");
  state.metrics_bytes = json.at<uint64_t>("metrics_bytes");
  return state;
}

}  // namespace deeplora
