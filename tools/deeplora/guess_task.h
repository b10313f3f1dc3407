// The task of a run whose configuration names none, from the columns of its training file.
#pragma once

#include "run_config.h"

namespace deeplora {

/// What a training file tells.
struct TaskGuess {
  std::string task, reason;  ///< "classification", "column label holds 3 different values"
  std::string text_pair;     ///< column of second texts, where the file has one and nobody named it
  Table table;               ///< the file
};

/// Reads the training file. Columns `chosen` and `rejected`: preference. `prompt` and `completion`, `messages`, or
/// plain text: causal-lm. Lists of `tokens` beside `tags`: token-classification. Else the label column decides: numbers
/// with many values (more than 20 different ones, or one of its own for more than half of the rows): regression;
/// anything else: classification. Throws Error where there is no label column (with the columns there are).
TaskGuess guess_task(const Config& config, const Registries& registries);

/// Puts the task into a configuration that names none, and says so.
void complete_task(Config& config, const Registries& registries);

}  // namespace deeplora
