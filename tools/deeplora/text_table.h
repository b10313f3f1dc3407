// Tables on a terminal.
#pragma once

#include <nlohmann/json.hpp>

#include <ostream>
#include <string>
#include <vector>

namespace deeplora {

/// A line per row, columns aligned at the left, with `indent` in front; widths are counted in characters.
void print_table(std::ostream& out, const std::vector<std::vector<std::string>>& rows, const std::string& indent = {});

/// "0.8123", or "undefined" for null.
std::string score_text(const nlohmann::ordered_json& value);

/// What a classification's details say (see label_report()): a row per label, the confusion matrix where its labels are
/// few, the calibration's error. Nothing for other tasks.
void print_details(std::ostream& out, const nlohmann::ordered_json& details);

}  // namespace deeplora
