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

double number_from(const Json& json) {
  if (!json.is_string()) return json.get<double>();
  if (json == "nan") return std::numeric_limits<double>::quiet_NaN();
  return json == "-inf" ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
}

Json evaluation(const std::optional<TrainResult::Evaluation>& evaluation) {
  if (!evaluation) return nullptr;
  Json scores = Json::array();
  for (const auto& [name, value] : evaluation->scores.values) scores.push_back({name, number(value)});
  return {{"step", evaluation->step},
          {"scores", scores},
          {"higher_is_better", evaluation->scores.higher_is_better}};
}

std::optional<TrainResult::Evaluation> evaluation_from(const Json& json) {
  if (json.is_null()) return std::nullopt;
  TrainResult::Evaluation out;
  out.step = json.at("step").get<int64_t>();
  out.scores.higher_is_better = json.at("higher_is_better").get<bool>();
  for (const auto& score : json.at("scores"))
    out.scores.values.emplace_back(score.at(0).get<std::string>(), number_from(score.at(1)));
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
          {"window_count", state.window_count},
          {"metrics_bytes", state.metrics_bytes}};
}

TrainState train_state_from(const Json& json) {
  TrainState state;
  json.at("step").get_to(state.step);
  json.at("epoch").get_to(state.epoch);
  json.at("position").get_to(state.position);
  json.at("samples").get_to(state.samples);
  json.at("moving_steps").get_to(state.moving_steps);
  json.at("evaluation_due").get_to(state.evaluation_due);
  json.at("evaluations_since_best").get_to(state.evaluations_since_best);
  state.best = evaluation_from(json.at("best"));
  state.last = evaluation_from(json.at("last"));
  state.seconds = number_from(json.at("seconds"));
  state.training_seconds = number_from(json.at("training_seconds"));
  state.seconds_to_first_step = number_from(json.at("seconds_to_first_step"));
  state.last_loss = number_from(json.at("last_loss"));
  state.window_loss = number_from(json.at("window_loss"));
  json.at("window_count").get_to(state.window_count);
  json.at("metrics_bytes").get_to(state.metrics_bytes);
  return state;
}

}  // namespace deeplora
