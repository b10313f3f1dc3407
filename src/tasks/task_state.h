// What tasks learn from the training rows, as task.json of a run and deeplora.json of an export keep it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/json_file.h"

namespace deeplora {

/// {"mean", "spread"} of a regression's target, or of every one of several as two lists. Throws Error unless there are
/// as many of both, at least one, and the spreads are above 0.
std::vector<std::pair<double, double>> read_target_scales(const OrderedJsonFile& state);

/// {"labels"} of a classification. Throws Error unless it is a list of at least two different texts.
std::vector<std::string> read_labels(const OrderedJsonFile& state);

/// {"threshold"} of a classification, 0.5 where there is none. Throws Error unless it is a number from 0 to 1.
double read_threshold(const OrderedJsonFile& state);

/// {"width"} of an embedding. Throws Error unless it is a whole number from 1.
int64_t read_width(const OrderedJsonFile& state);

/// {"chat"} of a language model: whether it learnt conversations.
bool read_chat(const OrderedJsonFile& state);

/// A run's task.json.
struct SavedTask {
  std::string fingerprint;  ///< of the model it was trained on
  OrderedJsonFile state;    ///< what Task::restore() takes
  std::string split{};      ///< fingerprint of the rows that were drawn from the training file; empty for none

  static SavedTask parse(const std::string& file, std::string_view text);
};

}  // namespace deeplora
