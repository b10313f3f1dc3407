#include "tasks/scores.h"

#include <cmath>

namespace deeplora {

nlohmann::ordered_json Scores::json() const {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const auto& [name, value] : values) {
    if (std::isfinite(value)) out[name] = value;
    else out[name] = nullptr;
  }
  return out;
}

}  // namespace deeplora
