// What must be the same when a run goes on after a break, so that it ends as if there had been none.
#pragma once

#include <nlohmann/json.hpp>

#include <span>

#include "train/data_order.h"
#include "train/trainer.h"

namespace deeplora {

/// Configuration keys and their values, the rows, the groups' learning-rate scales and what the caller added:
/// flat, so that a difference can be named. Compare with check_same_identity().
nlohmann::ordered_json run_identity(const Trainer::Setup& setup, const DataOrder& order, std::span<const Example> train,
                                    std::span<const Example> dev);

/// Adds a checksum of the order of rows in an epoch.
void add_order(nlohmann::ordered_json& identity, std::span<const MicroBatch> batches, int64_t epoch);

}  // namespace deeplora
