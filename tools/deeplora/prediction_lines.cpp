#include "prediction_lines.h"

#include <utility>

#include "core/csv_text.h"
#include "core/error.h"

namespace deeplora {
namespace {

std::string cell_text(const nlohmann::ordered_json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

/// A field that stands in the table although it is a list.
bool is_answer(const std::string& name) { return name == "prediction" || name == "tags" || name == "entities"; }

/// Names and cells of a line.
std::vector<std::pair<std::string, std::string>> cells_of(const nlohmann::ordered_json& record, size_t kept) {
  std::vector<std::pair<std::string, std::string>> out;
  size_t place = 0;
  for (const auto& [name, value] : record.items()) {
    if (place++ >= kept && (name == "by_label" || (name == "probabilities" && value.is_object())))
      for (const auto& [label, probability] : value.items())
        out.emplace_back("probability of " + label, cell_text(probability));
    else if (place <= kept || is_answer(name) || !value.is_structured()) out.emplace_back(name, cell_text(value));
  }
  return out;
}

}  // namespace

std::string PredictionLines::line(const Row& row, const nlohmann::ordered_json& prediction) {
  nlohmann::ordered_json record = nlohmann::ordered_json::object();
  for (const auto& name : keep_) {
    std::vector<std::string> there;
    for (const auto& item : row.fields.items()) there.push_back(item.key());
    check(row.fields.contains(name), row.source, ": --keep ", name, ": no such column", did_you_mean(name, there),
          "; columns: ", join(there));
    check(!prediction.contains(name), "--keep ", name, ": the prediction has a field of that name; rename the column");
    record[name] = row.fields[name];
  }
  record.update(prediction);
  if (!csv_) return record.dump() + "\n";
  std::vector<std::string> names, cells;
  for (auto& [name, cell] : cells_of(record, keep_.size())) {
    names.push_back(name);
    cells.push_back(cell);
  }
  return (std::exchange(first_, false) ? csv_line(names) : std::string()) + csv_line(cells);
}

}  // namespace deeplora
