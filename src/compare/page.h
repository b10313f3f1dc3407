// The report of a comparison as one page.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "compare/evidence.h"
#include "report/html_page.h"

namespace deeplora {

struct ComparePage {
  std::string title, metric, config_yaml;
  std::vector<std::pair<std::string, std::string>> facts;  ///< program, machine
  std::vector<RowEvidence> evidence;                       ///< parallel to the rows
};

/// Verdict, table, differences, scores against rank and number of rows, learning rates, learning curves, cost,
/// learned updates by layer, what is missing, how it was made, configuration.
Page comparison_page(const ComparePage& page, const std::vector<ComparisonRow>& rows, const Comparison& comparison);

}  // namespace deeplora
