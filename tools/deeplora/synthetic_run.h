// A run of `deeplora complete` on a synthetic target, whose error can be measured everywhere.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

#include "completion/config.h"
#include "core/system.h"
#include "train/run_folder.h"

namespace deeplora {

/// Fits, scores and writes config.yaml, factors, result.json and report.html. Returns result.json. `resolved` is the
/// configuration as YAML, `identity` what a resumed run must agree with, `label` the first word of the progress lines.
nlohmann::ordered_json run_synthetic(const CompletionConfig& config, const std::string& resolved,
                                     const nlohmann::ordered_json& identity, RunFolder& folder, bool resume,
                                     const StopSignal* stop, const std::string& label);

}  // namespace deeplora
