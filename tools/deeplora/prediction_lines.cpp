#include "prediction_lines.h"

#include <utility>

#include "core/error.h"

namespace deeplora {
namespace {

std::string quoted_for_csv(const std::string& text) {
  if (text.find_first_of("\",\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string csv_cell(const nlohmann::ordered_json& value) {
  if (value.is_null()) return "";
  return quoted_for_csv(value.is_string() ? value.get<std::string>() : value.dump());
}

/// Names and cells of a line.
std::vector<std::pair<std::string, std::string>> cells_of(const nlohmann::ordered_json& record, size_t kept) {
  std::vector<std::pair<std::string, std::string>> out;
  size_t place = 0;
  for (const auto& [name, value] : record.items()) {
    if (place++ >= kept && name == "by_label")
      for (const auto& [label, probability] : value.items()) out.emplace_back("probability of " + label, csv_cell(probability));
    else if (place <= kept || !value.is_structured()) out.emplace_back(name, csv_cell(value));
  }
  return out;
}

}  // namespace

std::string PredictionLines::line(const Row& row, const nlohmann::ordered_json& prediction) {
  nlohmann::ordered_json record = nlohmann::ordered_json::object();
  for (const auto& name : keep_) {
    std::vector<std::string> there;
    for (const auto& item : row.fields.items()) there.push_back(item.key());
    check(row.fields.contains(name), row.source, ": --keep ", name, ": no such column", did_you_mean(name, there), "; columns: ", join(there));
    check(!prediction.contains(name), "--keep ", name, ": the prediction has a field of that name; rename the column");
    record[name] = row.fields[name];
  }
  record.update(prediction);
  if (!csv_) return record.dump() + "\n";
  std::string header, cells;
  for (const auto& [name, cell] : cells_of(record, keep_.size())) {
    const char* comma = cells.empty() && header.empty() ? "" : ",";
    header += comma + quoted_for_csv(name);
    cells += comma + cell;
  }
  return (std::exchange(first_, false) ? header + "\n" : "") + cells + "\n";
}

}  // namespace deeplora
