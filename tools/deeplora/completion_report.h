// report.html of completions: one run, or the members of a sweep side by side.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "report/html_page.h"

namespace deeplora {

/// One fit and where it is.
struct CompletionMember {
  std::string name = {};  ///< "method=full, depth=3, trial=1"; empty for a single run
  std::vector<std::pair<std::string, std::string>> values = {};  ///< what distinguishes it, trial included
  std::filesystem::path folder = {};                             ///< its run folder, for metrics.jsonl
  nlohmann::ordered_json result = {};                            ///< result.json; null where it failed
  std::string failure = {};                                      ///< why it has no result
};

/// The page: a table of the results; recovery error by iteration and by time; iterations and final error by each swept
/// number (mean and standard deviation over trials); singular values and subspaces where they were tracked.
Page completion_report(const std::vector<CompletionMember>& members, const std::string& title,
                       const std::string& config_yaml);

}  // namespace deeplora
