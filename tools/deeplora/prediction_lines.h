// Predictions as they are written: JSON lines, or CSV with a column for each value.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "text/table.h"

namespace deeplora {

class PredictionLines {
 public:
  /// `keep`: columns of the rows that go along, in front.
  PredictionLines(bool csv, std::vector<std::string> keep) : csv_(csv), keep_(std::move(keep)) {}

  /// The lines of one prediction, for the first of a CSV with the header. CSV has a column for each single value and
  /// for each entry of by_label
  /// (`probability of LABEL`), quoted as RFC 4180 has it; lists are left out. Throws Error for a column that the row
  /// lacks, or the prediction has too.
  std::string line(const Row& row, const nlohmann::ordered_json& prediction);

 private:
  bool csv_, first_ = true;
  std::vector<std::string> keep_;
};

}  // namespace deeplora
