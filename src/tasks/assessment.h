// What an evaluation found, row by row and label by label. Free of LibTorch.
#pragma once

#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tasks/scores.h"

namespace deeplora {

/// What a model made of one labelled row.
struct RowResult {
  std::string source;                                      ///< file:line
  nlohmann::ordered_json label, prediction;                ///< names of classes, numbers or texts; null: there is none
  std::vector<double> probabilities;                       ///< of Assessment::classes; empty without classes
  double loss = std::numeric_limits<double>::quiet_NaN();  ///< NaN: not computed
};

/// Scores, and all that stands behind them.
struct Assessment {
  Scores scores;
  /// Beside the scores in result.json: per_label, confusion, calibration of a classification.
  nlohmann::ordered_json details = nlohmann::ordered_json::object();
  std::vector<std::string> classes;  ///< their names
  std::vector<RowResult> rows;       ///< in the order of the examples; empty where a task knows nothing of single rows
};

/// One JSON object a line: {"row", "source", "label", "prediction", "probabilities": {name: p}, "loss"}; what is not
/// known is left out.
std::string rows_jsonl(const Assessment& assessment);
/// The same as CSV (RFC 4180): a header, a column "probability of NAME" for every class.
std::string rows_csv(const Assessment& assessment);

/// Places in `rows`, at most so many. Wrong with the largest confidence, most first; right or wrong with the smallest,
/// least first; predicted numbers that are farthest off, farthest first. Of equals the earlier row comes first.
std::vector<size_t> surest_mistakes(const Assessment& assessment, size_t most);
std::vector<size_t> least_certain(const Assessment& assessment, size_t most);
std::vector<size_t> largest_errors(const Assessment& assessment, size_t most);
/// The probability of what was predicted, which a threshold may make the smaller one; NaN without classes, and for rows
/// that may have several.
double confidence(const Assessment& assessment, const RowResult& row);

}  // namespace deeplora
