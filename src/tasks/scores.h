// What an evaluation found. Free of LibTorch.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace deeplora {

/// Named values, the headline metric first. NaN where the metric is undefined (constant predictions).
struct Scores {
  std::vector<std::pair<std::string, double>> values;
  bool higher_is_better = true;

  /// `all` in their order, but `headline`, which is one of them, first.
  static Scores led_by(const std::string& headline, std::vector<std::pair<std::string, double>> all,
                       bool higher_is_better);

  double headline() const { return values.front().second; }
  const std::string& headline_name() const { return values.front().first; }
  nlohmann::ordered_json json() const;  ///< NaN becomes null
};

/// Scores after a step of training.
struct StepScores {
  int64_t step = 0;
  Scores scores;
};

}  // namespace deeplora
