#include "ratings_report.h"

#include <cmath>
#include <sstream>

#include "core/error.h"
#include "report/html_page.h"

namespace deeplora {
namespace {

using Json = nlohmann::ordered_json;

std::string shown_cell(const Json& value) {
  if (!value.is_number()) return value.is_string() ? value.get<std::string>() : value.is_null() ? "" : value.dump();
  std::ostringstream out;
  out.precision(5);
  out << value.get<double>();
  return out.str();
}

void add_errors(Page& page, const Json& result) {
  const bool tested = !result["test"].empty();
  const Json& model = tested ? result["test"] : result["best"];
  page.heading(tested
                   ? (result["baselines_on"] == "folds" ? "Errors, mean over the folds" : "Errors on the test ratings")
                   : "Errors on the dev ratings");
  page.paragraph(result["verdict"].get<std::string>());
  const auto row = [](const std::string& name, const Json& e) {
    return std::vector<std::string>{name, shown_cell(e["rmse"]), shown_cell(e["mae"])};
  };
  page.table({"model", "rmse", "mae"},
             {row("mean", result["baselines"]["mean"]), row("mean and biases", result["baselines"]["bias"]),
              row(result["method"].get<std::string>(), model)});
  CategoryChart chart{.title = "Root mean squared error",
                      .value_label = "rmse",
                      .categories = {"mean", "mean and biases", result["method"].get<std::string>()}};
  chart.series.push_back(
      {.name = "rmse",
       .values = {result["baselines"]["mean"]["rmse"], result["baselines"]["bias"]["rmse"], model["rmse"]}});
  page.chart(chart);
}

/// Scores of recommendations, where they were measured.
void add_ranking(Page& page, const Json& result) {
  if (!result.contains("ranking")) return;
  const std::string at = cat("@", result["ranking"]["at"].get<int64_t>());
  std::vector<std::string> header{"model"};
  for (const char* score : {"precision", "recall", "ndcg", "map", "coverage"}) header.push_back(score + at);
  const auto row = [&](const std::string& name, const Json& scores) {
    std::vector<std::string> out{name};
    for (size_t c = 1; c < header.size(); ++c) out.push_back(shown_cell(scores.value(header[c], Json())));
    return out;
  };
  page.heading("Recommendations");
  page.paragraph(cat("Over ", result["ranking"]["rows"].get<int64_t>(),
                     " rows with relevant held-out ratings, which are those from ",
                     shown_cell(result["ranking"]["relevant"]), "."));
  page.table(header,
             {row("mean and biases", result["baselines"]["bias"]),
              row(result["method"].get<std::string>(), result["test"].empty() ? result["best"] : result["test"])});
}

void add_grid(Page& page, const Json& candidates) {
  page.heading("Candidates, on dev ratings");
  std::vector<std::vector<std::string>> rows;
  LineChart chart{.title = "Dev error while fitting", .x_label = "sweep (chain, gibbs: evaluation)", .y_label = "rmse"};
  for (const auto& c : candidates) {
    rows.push_back(
        {c["name"].get<std::string>(), shown_cell(c["rmse"]), shown_cell(c["mae"]), shown_cell(c["sweeps"])});
    LineSeries line{.name = c["name"].get<std::string>()};
    for (const auto& value : c["curve"]) {
      line.x.push_back(static_cast<double>(line.x.size() + 1));
      line.y.push_back(value.is_number() ? value.get<double>() : std::nan(""));
    }
    if (!line.x.empty() && chart.series.size() < 28) chart.series.push_back(std::move(line));
  }
  page.table({"candidate", "rmse", "mae", "best at"}, rows);
  if (!chart.series.empty()) page.chart(chart);
}

void add_folds(Page& page, const Json& cross) {
  page.heading("Cross-validation");
  std::vector<std::vector<std::string>> rows;
  for (const auto& fold : cross["folds"])
    rows.push_back({std::to_string(rows.size() + 1), shown_cell(fold["chosen"]["solver"]),
                    shown_cell(fold["chosen"]["rank"]), shown_cell(fold["test"]["rmse"]),
                    shown_cell(fold["test"]["mae"]), shown_cell(fold["baselines"]["bias"]["rmse"]),
                    shown_cell(fold["baselines"]["mean"]["rmse"])});
  page.table({"fold", "solver", "rank", "rmse", "mae", "rmse of biases", "rmse of the mean"}, rows);
  page.paragraph(cat("rmse ", shown_cell(cross["model"]["rmse"]["mean"]), " with standard deviation ",
                     shown_cell(cross["model"]["rmse"]["sd"]), " over folds"));
}

}  // namespace

Page ratings_report(const Json& result, const Json& candidates, const std::string& title,
                    const std::vector<std::pair<std::string, std::string>>& facts, const std::string& resolved) {
  Page page(title, cat(shown_cell(result["ratings"]["train"]), " ratings of ", shown_cell(result["rows"]), " rows and ",
                       shown_cell(result["cols"]), " columns"));
  const Json& model = result["test"].empty() ? result["best"] : result["test"];
  page.highlights({{"rmse", shown_cell(model["rmse"])},
                   {"rmse of the biases", shown_cell(result["baselines"]["bias"]["rmse"])},
                   {"seconds", shown_cell(result["seconds"])}});
  add_errors(page, result);
  add_ranking(page, result);
  if (result.contains("cross_validation")) add_folds(page, result["cross_validation"]);
  add_grid(page, candidates);
  if (!result["remarks"].empty()) {
    page.heading("What was met in the data");
    for (const auto& remark : result["remarks"]) page.paragraph(remark.get<std::string>());
  }
  page.heading("Where it came from");
  page.key_values(facts);
  page.code("Configuration", resolved);
  return page;
}

}  // namespace deeplora
