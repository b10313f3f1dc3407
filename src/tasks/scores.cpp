#include "tasks/scores.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace deeplora {

Scores Scores::led_by(const std::string& headline, std::vector<std::pair<std::string, double>> all,
                      bool higher_is_better) {
  const auto found = std::find_if(all.begin(), all.end(), [&](const auto& score) { return score.first == headline; });
  check(found != all.end(), "no score is called '", headline, "'");
  std::rotate(all.begin(), found, found + 1);
  return {std::move(all), higher_is_better};
}

nlohmann::ordered_json Scores::json() const {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const auto& [name, value] : values) {
    if (std::isfinite(value)) out[name] = value;
    else out[name] = nullptr;
  }
  return out;
}

}  // namespace deeplora
