// What is odd about the rows of a run, looked for before it trains.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "tasks/task.h"

namespace deeplora {

/// A sentence for each of: a class above 99 % of the training rows, training rows that repeat another (and how many
/// with another label), labels of dev and test that the training rows lack, rows of dev and test that repeat one of
/// training, or of each other.
std::vector<std::string> data_findings(const Task& task, std::span<const Row> train, std::span<const Row> dev,
                                       std::span<const Row> test);

}  // namespace deeplora
