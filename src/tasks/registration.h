// The tasks.
#pragma once

#include "tasks/task.h"

namespace deeplora {

/// classification, regression, and a row per GLUE task.
void register_tasks(Tasks& tasks);

}  // namespace deeplora
