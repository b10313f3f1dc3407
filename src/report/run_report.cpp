#include "report/run_report.h"

#include <algorithm>
#include <cmath>
#include <limits>

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

/// Objects of scores side by side, a row per score; everything else as a list.
void add_result(Page& page, const nlohmann::ordered_json& result) {
  std::vector<std::string> header = {""}, names;
  std::vector<std::pair<std::string, std::string>> others;
  for (const auto& [key, value] : result.items()) {
    if (!value.is_object()) {
      others.emplace_back(key, value_text(value));
      continue;
    }
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
  page.heading("Result");
  if (!rows.empty()) page.table(header, rows);
  if (!others.empty()) page.key_values(others);
}

LineSeries series_of(const RunCurve& curve) {
  return {.name = curve.name, .x = curve.steps, .y = curve.values};
}

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
  LineChart chart = step_chart("Loss", "loss per sample or predicted token", std::move(series));
  chart.log_y = spans_more_than(all, 50);
  mark_best(chart, report);
  page.chart(chart);
}

void add_curves(Page& page, const RunReport& report) {
  page.heading("Training");
  add_loss(page, report);
  for (const RunCurve& curve : report.dev) {
    if (curve.name == "loss" || curve.steps.empty()) continue;
    LineChart chart =
        step_chart(cat(curve.name, " on dev", curve.name == report.metric ? " (chooses the best)" : ""),
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
  page.paragraph(
      cat("What was learned for each weight: number of trained parameters, Frobenius norm of the update that "
          "merging adds, ",
          "the same relative to the norm of the frozen weight",
          ranks ? ", and numerical rank of the update." : "."));
  page.table(header, rows);
  add_spectrum(page, sites);
}

}  // namespace

std::string run_report(const RunReport& report) {
  Page page(report.title, report.subtitle);
  if (!report.highlights.empty()) page.highlights(report.highlights);
  if (!report.result.empty()) add_result(page, report.result);
  if (!report.train_loss.steps.empty() || !report.dev.empty() || !report.learning_rates.empty())
    add_curves(page, report);
  if (!report.sites.empty()) add_sites(page, report.sites);
  if (!report.config_yaml.empty()) {
    page.heading("Configuration");
    page.code("config.yaml", report.config_yaml);
  }
  return page.html();
}

}  // namespace deeplora
