// report.html of a run on ratings.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

#include "report/html_page.h"

namespace deeplora {

/// The page: errors beside the baselines, the dev curves of the grid, the folds, the configuration. `candidates` with
/// their curves.
Page ratings_report(const nlohmann::ordered_json& result, const nlohmann::ordered_json& candidates,
                    const std::string& title, const std::string& resolved);

}  // namespace deeplora
