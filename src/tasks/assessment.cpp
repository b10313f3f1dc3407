#include "tasks/assessment.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/csv_text.h"
#include "core/error.h"

namespace deeplora {
namespace {

/// A text as it is, a number with all its digits, "" for null.
std::string cell_text(const nlohmann::ordered_json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

/// Places of the rows that have a weight, largest first.
std::vector<size_t> heaviest(const Assessment& assessment, size_t most,
                             const std::function<double(const RowResult&)>& weight) {
  std::vector<std::pair<double, size_t>> found;
  for (size_t i = 0; i < assessment.rows.size(); ++i)
    if (const double value = weight(assessment.rows[i]); std::isfinite(value)) found.emplace_back(-value, i);
  std::sort(found.begin(), found.end());
  std::vector<size_t> out;
  for (const auto& [unused, place] : found)
    if (out.size() < most) out.push_back(place);
  return out;
}

}  // namespace

double confidence(const Assessment& assessment, const RowResult& row) {
  if (row.prediction.is_array()) return std::nan("");
  const auto& names = assessment.classes;
  const auto place = static_cast<size_t>(std::find(names.begin(), names.end(), row.prediction) - names.begin());
  return place < row.probabilities.size() ? row.probabilities[place] : std::nan("");
}

std::vector<size_t> surest_mistakes(const Assessment& assessment, size_t most) {
  return heaviest(assessment, most, [&](const RowResult& row) {
    return row.label == row.prediction ? std::nan("") : confidence(assessment, row);
  });
}

std::vector<size_t> least_certain(const Assessment& assessment, size_t most) {
  return heaviest(assessment, most, [&](const RowResult& row) { return -confidence(assessment, row); });
}

std::vector<size_t> largest_errors(const Assessment& assessment, size_t most) {
  return heaviest(assessment, most, [](const RowResult& row) {
    const bool numbers = row.label.is_number() && row.prediction.is_number();
    return numbers ? std::abs(row.prediction.get<double>() - row.label.get<double>()) : std::nan("");
  });
}

std::string rows_jsonl(const Assessment& assessment) {
  std::string out;
  for (size_t i = 0; i < assessment.rows.size(); ++i) {
    const RowResult& row = assessment.rows[i];
    nlohmann::ordered_json json{{"row", i + 1}, {"source", row.source}};
    if (!row.label.is_null()) json["label"] = row.label;
    if (!row.prediction.is_null()) json["prediction"] = row.prediction;
    for (size_t c = 0; c < row.probabilities.size(); ++c)
      json["probabilities"][assessment.classes[c]] = row.probabilities[c];
    if (std::isfinite(row.loss)) json["loss"] = row.loss;
    out += json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  return out;
}

std::string rows_csv(const Assessment& assessment) {
  std::vector<std::string> header{"row", "source", "label", "prediction"};
  for (const std::string& name : assessment.classes) header.push_back("probability of " + name);
  header.emplace_back("loss");
  std::string out = csv_line(header);
  for (size_t i = 0; i < assessment.rows.size(); ++i) {
    const RowResult& row = assessment.rows[i];
    std::vector<std::string> cells{cat(i + 1), row.source, cell_text(row.label), cell_text(row.prediction)};
    for (size_t c = 0; c < assessment.classes.size(); ++c)
      cells.push_back(c < row.probabilities.size() ? csv_number(row.probabilities[c]) : "");
    cells.push_back(csv_number(row.loss));
    out += csv_line(cells);
  }
  return out;
}

}  // namespace deeplora
