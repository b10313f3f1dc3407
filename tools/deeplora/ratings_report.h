// report.html of a run on ratings.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <utility>
#include <vector>

#include "report/html_page.h"

namespace deeplora {

/// The page: errors beside the baselines, the dev curves of the grid, the folds, where it came from (`facts`: a name
/// and a text each), the configuration. `candidates` with their curves.
Page ratings_report(const nlohmann::ordered_json& result, const nlohmann::ordered_json& candidates,
                    const std::string& title, const std::vector<std::pair<std::string, std::string>>& facts,
                    const std::string& resolved);

}  // namespace deeplora
