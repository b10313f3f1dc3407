#include "text_table.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

#include "core/error.h"
#include "text/unicode.h"

namespace deeplora {
namespace {

constexpr size_t kMostColumns = 20;  // of a matrix that fits a terminal

void print_labels(std::ostream& out, const nlohmann::ordered_json& labels) {
  std::vector<std::vector<std::string>> table{{"label", "precision", "recall", "f1", "rows"}};
  for (const auto& [name, scores] : labels.items())
    table.push_back({name, score_text(scores["precision"]), score_text(scores["recall"]), score_text(scores["f1"]),
                     scores["support"].dump()});
  out << "\n";
  print_table(out, table, "  ");
}

void print_confusion(std::ostream& out, const nlohmann::ordered_json& confusion) {
  if (!confusion.contains("counts") || confusion["labels"].size() > kMostColumns) {
    out << "\n  the confusion matrix is in the output of --json\n";
    return;
  }
  std::vector<std::vector<std::string>> table{{"true \\ predicted"}};
  for (const auto& name : confusion["labels"]) table.front().push_back(name.get<std::string>());
  for (size_t row = 0; row < confusion["labels"].size(); ++row) {
    table.push_back({confusion["labels"][row].get<std::string>()});
    for (const auto& count : confusion["counts"][row]) table.back().push_back(count.dump());
  }
  out << "\n";
  print_table(out, table, "  ");
}

}  // namespace

void print_table(std::ostream& out, const std::vector<std::vector<std::string>>& rows, const std::string& indent) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], utf8_count(row[i]));
  }
  for (const auto& row : rows) {
    std::string line = indent;
    for (size_t i = 0; i < row.size(); ++i)
      line += row[i] + std::string(i + 1 < row.size() ? widths[i] - utf8_count(row[i]) + 2 : 0, ' ');
    out << line << "\n";
  }
}

std::string score_text(const nlohmann::ordered_json& value) {
  if (!value.is_number()) return "undefined";
  std::ostringstream out;
  out << std::fixed << std::setprecision(4) << value.get<double>();
  return out.str();
}

void print_details(std::ostream& out, const nlohmann::ordered_json& details) {
  if (!details.contains("per_label")) return;
  print_labels(out, details["per_label"]);
  if (!details.contains("confusion")) return;  // rows with several labels, or several answers
  print_confusion(out, details["confusion"]);
  out << "\n  calibration: the probability of what is predicted is off by "
      << score_text(details["calibration"]["error"]) << " in the mean (expected calibration error, 10 bins)\n";
}

}  // namespace deeplora
