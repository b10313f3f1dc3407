// What task a model is for, where its own files say it: so that it is scored and asked without a run folder.
#pragma once

#include <optional>
#include <string>

#include "head_plan.h"

namespace deeplora {

struct ModelTask {
  std::string name;
  nlohmann::ordered_json data = nlohmann::ordered_json::object();  ///< keys of the `data` section
  OrderedJsonFile state;                                           ///< what Task::restore() takes
};

/// Of deeplora.json, where `deeplora export` wrote the model; else of config.json: a classification or a regression by
/// a head of transformers, a language model. Nothing where neither says it. Throws Error for a head of several labels
/// at once, and where the two name different classes.
std::optional<ModelTask> task_of(const ModelFiles& files, const ModelFamilies& families);

}  // namespace deeplora
