// Keys of `data.generation`, and what a model's own files say about the end of a text.
#pragma once

#include <string>
#include <vector>

#include "lm/decoding.h"
#include "tasks/task.h"

namespace deeplora {

struct GenerationConfig {
  GenerationOptions options;
  std::vector<std::string> stop;  ///< texts that end a row; not part of it

  /// Reads every key of `generation`, recording mistakes on the configuration.
  static GenerationConfig read(const Config& generation);
  /// The keys with their values.
  nlohmann::ordered_json settings() const;
  /// End tokens and forced tokens from generation_config.json, config.json and the tokenizer.
  void use_model(const TaskModel& model);
};

/// A token id of generation_config.json, else of config.json; -1 where neither has it.
int64_t model_token(const TaskModel& model, const std::string& key);

/// `text` up to the first stop text in it; `found` tells whether there was one.
std::string before_stop(const std::string& text, const std::vector<std::string>& stop, bool* found = nullptr);

}  // namespace deeplora
