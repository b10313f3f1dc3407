// Whether the ids of rows have places in the model's tables.
#pragma once

#include <span>
#include <string_view>

#include "lm/language_model.h"
#include "tasks/task.h"

namespace deeplora {

/// Throws Error with every row whose ids, token types or labels are beyond the model's tables; `what` names the rows.
/// Where the model does not show a table, the largest value is run through it instead; so are whole numbers that rows
/// carry as tensors, beyond those that it was trained on.
void check_ids(const Task& task, LanguageModel& model, std::span<const Example> examples, torch::Device device,
               std::string_view what);

}  // namespace deeplora
