// Vectors of texts that lie close together where the texts mean the same.
#pragma once

#include "tasks/task.h"

namespace deeplora {

/// Rows are pairs (`text`, `text_pair`), triplets (a `negative` besides) or scored pairs (a score in `label`).
std::unique_ptr<Task> make_embedding(const Config& data);

}  // namespace deeplora
