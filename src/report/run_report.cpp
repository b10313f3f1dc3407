#include "report/run_report.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

#include "core/csv_text.h"
#include "core/error.h"
#include "report/axis.h"
#include "report/html_page.h"

namespace deeplora {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

std::string value_text(const nlohmann::ordered_json& value) {
  if (value.is_null()) return "undefined";  // JSON has no NaN
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_integer()) return value.dump();
  if (value.is_number()) return number_text(value.get<double>(), 5);
  return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

/// Objects of scores side by side, a row per score.
void add_scores(Page& page, const nlohmann::ordered_json& result) {
  std::vector<std::string> header = {""}, names;
  for (const auto& [key, value] : result.items()) {
    if (!value.is_object() || value.empty()) continue;
    header.push_back(key);
    for (const auto& [name, unused] : value.items())
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  std::vector<std::vector<std::string>> rows;
  for (const std::string& name : names) {
    std::vector<std::string> row = {name};
    for (size_t i = 1; i < header.size(); ++i) {
      const auto& scores = result.at(header[i]);
      row.push_back(scores.contains(name) ? value_text(scores.at(name)) : "");
    }
    rows.push_back(std::move(row));
  }
  if (rows.empty()) return;
  page.heading("Scores");
  page.table(header, rows);
}

/// Everything else of the result, as it is called there.
void add_other_results(Page& page, const nlohmann::ordered_json& result) {
  std::vector<std::pair<std::string, std::string>> others;
  for (const auto& [key, value] : result.items())
    if (!value.is_object()) others.emplace_back(key, value_text(value));
  if (others.empty()) return;
  page.begin_fold("All numbers of result.json");
  page.key_values(others);
  page.end_fold();
}

std::string share_text(double value) { return number_text(std::round(value * 1e4) / 1e4, 4); }

/// What was trained on is counted by the labels that are scored: tags of words are not, whose entities are.
bool counts_labels(const RunRows& rows) {
  return std::all_of(rows.trained.begin(), rows.trained.end(),
                     [&](const auto& one) { return rows.details["per_label"].contains(one.first); });
}

void add_label_table(Page& page, const RunRows& rows) {
  const std::map<std::string, size_t> trained(rows.trained.begin(), rows.trained.end());
  std::vector<std::vector<std::string>> table;
  for (const auto& [name, scores] : rows.details["per_label"].items()) {
    table.push_back({name});
    for (const char* key : {"precision", "recall", "f1"})
      table.back().push_back(scores[key].is_number() ? share_text(scores[key].get<double>()) : "undefined");
    table.back().push_back(scores["support"].dump());
    const auto found = trained.find(name);
    if (counts_labels(rows)) table.back().push_back(found == trained.end() ? "" : cat(found->second));
  }
  std::vector<std::string> header{"label", "precision", "recall", "f1"};
  header.push_back(cat(counts_labels(rows) ? "rows in " : "entities in ", rows.split));
  if (counts_labels(rows)) header.emplace_back("training rows");
  page.table(header, table);
}

/// The matrix as a drawing where it is small, else its most frequent mistakes.
void add_confusion(Page& page, const RunRows& rows) {
  constexpr size_t kMostDrawn = 20;
  const auto& confusion = rows.details["confusion"];
  std::vector<std::vector<std::string>> frequent;
  if (confusion.contains("counts")) {
    const auto labels = confusion["labels"].get<std::vector<std::string>>();
    HeatMap map{.title = cat("Confusion on ", rows.split, ": a row per true label"),
                .column_label = "predicted label",
                .rows = labels,
                .columns = labels};
    std::vector<std::tuple<int64_t, size_t, size_t>> wrong;
    for (size_t i = 0; i < labels.size(); ++i) {
      map.values.push_back(confusion["counts"][i].get<std::vector<double>>());
      for (size_t j = 0; j < labels.size(); ++j) {
        map.high = std::max(map.high, map.values[i][j]);
        if (i != j && map.values[i][j] > 0) wrong.emplace_back(-static_cast<int64_t>(map.values[i][j]), i, j);
      }
    }
    if (labels.size() <= kMostDrawn) return page.chart(map);
    std::sort(wrong.begin(), wrong.end());
    for (const auto& [count, i, j] : wrong)
      if (frequent.size() < kMostDrawn) frequent.push_back({labels[i], labels[j], cat(-count)});
  } else {
    for (const auto& one : confusion["frequent"])
      if (frequent.size() < kMostDrawn)
        frequent.push_back({one["label"].get<std::string>(), one["prediction"].get<std::string>(), one["rows"].dump()});
  }
  if (frequent.empty()) return;
  page.paragraph("The most frequent mistakes; result.json has more.");
  page.table({"true label", "predicted label", "rows"}, frequent);
}

void add_calibration(Page& page, const RunRows& rows) {
  const auto& found = rows.details["calibration"];
  const double error = found["error"].is_number() ? found["error"].get<double>() : kNothing;
  LineSeries ideal{.name = "as often as it says", .x = {0, 1}, .y = {0, 1}},
      bins{.name = cat("rows in bins (expected calibration error ", share_text(error), ")")};
  for (const auto& bin : found["bins"]) {
    if (bin["rows"].get<int64_t>() == 0) continue;
    bins.x.push_back(bin["confidence"].get<double>());
    bins.y.push_back(bin["accuracy"].get<double>());
  }
  if (bins.x.empty()) return;
  page.chart(LineChart{.title = cat("Calibration on ", rows.split),
                       .x_label = "probability of the predicted label",
                       .y_label = "share that is right",
                       .series = {std::move(bins), std::move(ideal)}});
}

void add_label_counts(Page& page, const RunRows& rows) {
  constexpr size_t kMostBars = 20;
  if (rows.trained.empty() || rows.trained.size() > kMostBars || !counts_labels(rows)) return;
  CategoryChart chart{.title = "Rows of every label",
                      .value_label = "rows",
                      .series = {{.name = "train"}, {.name = rows.split}},
                      .bars = true};
  for (const auto& [name, count] : rows.trained) {
    chart.categories.push_back(name);
    chart.series[0].values.push_back(static_cast<double>(count));
    const auto& scores = rows.details["per_label"];
    chart.series[1].values.push_back(scores.contains(name) ? scores[name]["support"].get<double>() : 0);
  }
  page.chart(chart);
}

std::vector<std::vector<std::string>> cells_of(const std::vector<RunRow>& rows, bool with_number) {
  std::vector<std::vector<std::string>> out;
  for (const RunRow& row : rows) {
    out.push_back({row.text, row.label, row.prediction});
    if (with_number) out.back().push_back(number_text(row.number, 4));
  }
  return out;
}

void add_labels(Page& page, const RunRows& rows) {
  page.heading(cat("Labels on ", rows.split));
  add_label_table(page, rows);
  if (rows.details.contains("confusion")) add_confusion(page, rows);
  if (rows.details.contains("calibration")) add_calibration(page, rows);
  add_label_counts(page, rows);
  const std::vector<std::string> header = {"text", "label", "prediction", "probability"};
  if (!rows.mistakes.empty()) {
    page.heading("Surest mistakes");
    page.paragraph("Wrong, and with the largest probability: often rows whose label deserves a second look.");
    page.texts(header, cells_of(rows.mistakes, true));
  }
  if (!rows.uncertain.empty()) {
    page.heading("Least certain rows");
    page.texts(header, cells_of(rows.uncertain, true));
  }
}

/// At most so many points are drawn, evenly chosen in the order of the rows.
constexpr size_t kMostPoints = 1500;

void add_regression(Page& page, const RunRows& rows) {
  page.heading(cat("Predicted against true on ", rows.split));
  LineSeries points{.name = "rows", .scattered = true}, equal{.name = "predicted = true"};
  const size_t stride = (rows.expected.size() + kMostPoints - 1) / kMostPoints;
  for (size_t i = 0; i < rows.expected.size(); i += stride) {
    points.x.push_back(rows.expected[i]);
    points.y.push_back(rows.predicted[i]);
  }
  const auto [low, high] = std::minmax_element(points.x.begin(), points.x.end());
  equal.x = equal.y = {*low, *high};
  page.chart(LineChart{.title = cat("Predicted against true on ", rows.split),
                       .x_label = "true",
                       .y_label = "predicted",
                       .series = {points, equal}});
  LineChart errors{.title = "Errors over the true value",
                   .x_label = "true",
                   .y_label = "predicted - true",
                   .series = {{.name = "rows", .scattered = true}}};
  for (size_t i = 0; i < points.x.size(); ++i) {
    errors.series[0].x.push_back(points.x[i]);
    errors.series[0].y.push_back(points.y[i] - points.x[i]);
  }
  errors.series.push_back({.name = "no error", .x = equal.x, .y = {0, 0}});
  page.chart(errors);
  if (stride > 1) page.paragraph(cat("Of ", rows.expected.size(), " rows, every ", stride, ". is drawn."));
  page.heading("Largest errors");
  page.texts({"text", "true", "predicted", "error"}, cells_of(rows.errors, true));
}

void add_rows(Page& page, const RunRows& rows) {
  if (rows.details.contains("per_label")) add_labels(page, rows);
  if (!rows.expected.empty()) add_regression(page, rows);
  if (rows.generated.empty()) return;
  page.heading(cat("Generated on ", rows.split));
  std::vector<std::string> header{"prompt", "expected", "generated after training"};
  std::vector<std::vector<std::string>> cells = cells_of(rows.generated, false);
  const auto known = [](const RunRow& row) { return row.before.has_value(); };
  if (std::any_of(rows.generated.begin(), rows.generated.end(), known)) {
    header.insert(header.end() - 1, "before training");
    for (size_t i = 0; i < cells.size(); ++i)
      cells[i].insert(cells[i].end() - 1, rows.generated[i].before.value_or(""));
  }
  page.texts(header, cells);
}

LineSeries series_of(const RunCurve& curve) { return {.name = curve.name, .x = curve.steps, .y = curve.values}; }

LineChart step_chart(std::string title, std::string y_label, std::vector<LineSeries> series) {
  return {.title = std::move(title),
          .x_label = "optimizer step",
          .y_label = std::move(y_label),
          .series = std::move(series)};
}

void mark_best(LineChart& chart, const RunReport& report) {
  if (!report.best_step) return;
  chart.marked_x = {*report.best_step};
  chart.marked_name = cat("best on dev (step ", number_text(*report.best_step), ")");
}

void add_loss(Page& page, const RunReport& report) {
  std::vector<LineSeries> series;
  if (!report.train_loss.steps.empty()) {
    series.push_back(series_of(report.train_loss));
    series.back().name = "train";
  }
  for (const RunCurve& curve : report.dev)
    if (curve.name == "loss") {
      series.push_back(series_of(curve));
      series.back().name = "dev";
    }
  if (series.empty()) return;
  std::vector<double> all;
  for (const LineSeries& one : series) all.insert(all.end(), one.y.begin(), one.y.end());
  LineChart chart = step_chart("Loss", report.loss_label, std::move(series));
  chart.log_y = spans_more_than(all, 50);
  mark_best(chart, report);
  page.chart(chart);
}

void add_curves(Page& page, const RunReport& report) {
  page.heading("Training");
  add_loss(page, report);
  for (const RunCurve& curve : report.dev) {
    if (curve.name == "loss" || curve.steps.empty()) continue;
    LineChart chart = step_chart(cat(curve.name, " on dev", curve.name == report.metric ? " (chooses the best)" : ""),
                                 curve.name, {series_of(curve)});
    mark_best(chart, report);
    page.chart(chart);
  }
  if (!report.learning_rates.empty()) {
    std::vector<LineSeries> series;
    for (const RunCurve& curve : report.learning_rates) series.push_back(series_of(curve));
    page.chart(step_chart("Learning rate", "learning rate", std::move(series)));
  }
  if (!report.samples_per_second.steps.empty())
    page.chart(step_chart("Speed", "samples/s", {series_of(report.samples_per_second)}));
}

/// Median of the defined values.
double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n == 0 ? kNothing : (values[(n - 1) / 2] + values[n / 2]) / 2;
}

/// Singular values relative to each site's largest: the median over the sites and the range of all of them.
void add_spectrum(Page& page, const std::vector<RunSite>& sites) {
  size_t longest = 0;
  for (const RunSite& site : sites) longest = std::max(longest, site.singular_values.size());
  LineSeries spectrum{.name = "median over the sites"};
  for (size_t i = 0; i < longest; ++i) {
    std::vector<double> at;
    for (const RunSite& site : sites)
      if (i < site.singular_values.size() && site.singular_values[0] > 0)
        at.push_back(site.singular_values[i] / site.singular_values[0]);
    if (at.empty()) continue;
    spectrum.x.push_back(static_cast<double>(i + 1));
    spectrum.y.push_back(median(at));
    spectrum.low.push_back(*std::min_element(at.begin(), at.end()));
    spectrum.high.push_back(*std::max_element(at.begin(), at.end()));
  }
  if (spectrum.x.empty()) return;
  page.paragraph(
      "Singular values of each learned update, divided by its largest: the line is the median over the "
      "sites, the band holds all of them.");
  LineChart chart{.title = "Spectrum of the learned updates",
                  .x_label = "index of the singular value",
                  .y_label = "relative to the largest"};
  chart.log_y = spans_more_than(spectrum.y, 50);
  chart.series = {std::move(spectrum)};
  page.chart(chart);
}

void add_sites(Page& page, const std::vector<RunSite>& sites) {
  page.heading("Adapted weights");
  const bool ranks =
      std::any_of(sites.begin(), sites.end(), [](const RunSite& s) { return s.numerical_rank.has_value(); });
  std::vector<std::string> header = {
      "weight", "role", "out", "in", "trained parameters", "norm of the update", "relative to the weight"};
  if (ranks) header.push_back("rank");
  std::vector<std::vector<std::string>> rows;
  for (const RunSite& site : sites) {
    const double relative = site.weight_norm > 0 ? site.update_norm / site.weight_norm : kNothing;
    rows.push_back({site.path, site.role, cat(site.out), cat(site.in), cat(site.parameters),
                    number_text(site.update_norm, 3), number_text(relative, 3)});
    if (ranks) rows.back().push_back(site.numerical_rank ? cat(*site.numerical_rank) : "");
  }
  add_spectrum(page, sites);
  page.paragraph(
      cat("What was learned for each weight: number of trained parameters, Frobenius norm of the update that "
          "merging adds, ",
          "the same relative to the norm of the frozen weight", ranks ? ", and numerical rank of the update." : "."));
  page.begin_fold(cat(sites.size(), sites.size() == 1 ? " weight" : " weights"));
  page.table(header, rows);
  page.end_fold();
}

/// What follows, and where it came from.
void add_background(Page& page, const RunReport& report) {
  if (!report.next.empty()) {
    page.heading("What comes next");
    std::string lines;
    for (const std::string& command : report.next) lines += command + "\n";
    page.code("Commands", lines, true);
  }
  page.heading("How this was made");
  if (!report.facts.empty()) page.key_values(report.facts);
  add_other_results(page, report.result);
  if (!report.config_yaml.empty()) page.code("config.yaml", report.config_yaml);
}

}  // namespace

Page run_report(const RunReport& report) {
  Page page(report.title, report.subtitle);
  if (!report.highlights.empty()) page.highlights(report.highlights);
  if (!report.result.empty()) add_scores(page, report.result);
  add_rows(page, report.rows);
  if (!report.train_loss.steps.empty() || !report.dev.empty() || !report.learning_rates.empty())
    add_curves(page, report);
  if (!report.sites.empty()) add_sites(page, report.sites);
  add_background(page, report);
  return page;
}

std::string curves_csv(const RunReport& report) {
  std::vector<const RunCurve*> curves{&report.train_loss};
  std::vector<std::string> names{"training loss"};
  for (const RunCurve& curve : report.dev) {
    curves.push_back(&curve);
    names.push_back("dev " + curve.name);
  }
  for (const RunCurve& curve : report.learning_rates) {
    curves.push_back(&curve);
    names.push_back(curve.name);
  }
  curves.push_back(&report.samples_per_second);
  names.emplace_back("samples per second");
  std::map<double, std::vector<std::string>> lines;
  for (size_t c = 0; c < curves.size(); ++c)
    for (size_t i = 0; i < curves[c]->steps.size(); ++i) {
      auto& line = lines[curves[c]->steps[i]];
      line.resize(curves.size());
      line[c] = csv_number(curves[c]->values[i]);
    }
  names.insert(names.begin(), "step");
  std::string out = csv_line(names);
  for (auto& [step, line] : lines) {
    line.insert(line.begin(), csv_number(step));
    out += csv_line(line);
  }
  return out;
}

}  // namespace deeplora
