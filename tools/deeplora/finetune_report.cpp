#include "finetune_report.h"

#include <cmath>
#include <sstream>

#include "factorization/diagnostics.h"
#include "report/run_report.h"

namespace deeplora {
namespace {

/// A JSON number, or NaN for null and anything else.
double number(const nlohmann::ordered_json& value) {
  return value.is_number() ? value.get<double>() : std::nan("");
}

std::string text(double value) {
  std::ostringstream out;
  out.precision(4);
  out << value;
  return std::isfinite(value) ? out.str() : "undefined";
}

RunCurve& curve_of(std::vector<RunCurve>& curves, const std::string& name) {
  for (auto& curve : curves)
    if (curve.name == name) return curve;
  curves.push_back({.name = name});
  return curves.back();
}

void add_point(RunCurve& curve, double step, double value) {
  curve.steps.push_back(step);
  curve.values.push_back(value);
}

/// Curves from the rows of metrics.jsonl.
void read_curves(const RunFolder& folder, RunReport& report) {
  std::error_code ignored;
  if (!std::filesystem::exists(folder.metrics_file(), ignored)) return;
  std::istringstream lines(read_file(folder.metrics_file()));
  report.train_loss.name = "training loss";
  report.samples_per_second.name = "samples per second";
  for (std::string line; std::getline(lines, line);) {
    const auto row = nlohmann::ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!row.is_object() || !row.contains("step")) continue;
    const double step = number(row["step"]);
    if (row.contains("eval") && row["eval"].is_object())
      for (const auto& item : row["eval"].items()) add_point(curve_of(report.dev, item.key()), step, number(item.value()));
    if (row.contains("loss")) add_point(report.train_loss, step, number(row["loss"]));
    if (row.contains("lr")) add_point(curve_of(report.learning_rates, "learning rate"), step, number(row["lr"]));
    if (row.contains("samples_per_second")) add_point(report.samples_per_second, step, number(row["samples_per_second"]));
  }
}

/// {"rows": {"train": 200}} -> {"train_rows": 200}: the page takes objects for columns of scores.
nlohmann::ordered_json flat_counts(const nlohmann::ordered_json& result) {
  nlohmann::ordered_json out;
  for (const auto& item : result.items()) {
    const bool counts = item.key() == "rows" || item.key() == "truncated";
    if (!counts) out[item.key()] = item.value();
    else
      for (const auto& [split, count] : item.value().items()) out[split + "_" + item.key()] = count;
  }
  return out;
}

}  // namespace

std::vector<RunSite> describe_sites(const Session& session) {
  torch::NoGradGuard no_grad;
  std::vector<RunSite> out;
  for (size_t i = 0; i < session.adapted->adapters().size(); ++i) {
    const auto& [site, adapter] = session.adapted->adapters()[i];
    const torch::Tensor values = adapter->singular_values().to(torch::kCPU, torch::kFloat64).contiguous();
    RunSite row{.path = site.path, .role = site.role, .out = site.weight.size(0), .in = site.weight.size(1)};
    for (const auto& group : adapter->param_groups())
      for (const auto& [unused, value] : group.params) row.parameters += value.numel();
    row.update_norm = values.norm().item<double>();
    row.weight_norm = session.weight_norms.at(i);
    row.numerical_rank = numerical_rank(values, 1e-2);
    row.singular_values.assign(values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel());
    out.push_back(std::move(row));
  }
  return out;
}

nlohmann::ordered_json updates_json(const std::vector<RunSite>& sites) {
  constexpr ptrdiff_t kMostValues = 128;
  auto out = nlohmann::ordered_json::array();
  for (const RunSite& site : sites) {
    const auto& values = site.singular_values;
    const std::vector<double> leading(values.begin(), values.begin() + std::min(std::ssize(values), kMostValues));
    out.push_back({{"path", site.path}, {"role", site.role}, {"shape", {site.out, site.in}}, {"parameters", site.parameters},
                   {"update_norm", site.update_norm}, {"weight_norm", site.weight_norm}, {"numerical_rank", *site.numerical_rank},
                   {"singular_values", leading}});
  }
  return out;
}

std::string finetune_report(const Session& session, std::vector<RunSite> sites, const nlohmann::ordered_json& result, const RunFolder& folder) {
  RunReport report;
  report.title = cat(session.config.adapter.method, " on ", session.config.data.task);
  report.subtitle = cat(session.config.model.path.filename().string(), ", ", session.train.rows.size(), " training rows");
  report.result = flat_counts(result);
  if (result["best"].contains("step")) report.best_step = number(result["best"]["step"]);
  for (const char* part : {"best", "test"})
    for (const auto& item : result[part].items()) {
      if (report.metric.empty()) report.metric = item.key();
      report.highlights.emplace_back(cat(std::string(part) == "best" ? "dev" : part, " ", item.key()), text(number(item.value())));
      break;
    }
  report.highlights.emplace_back("trained parameters", std::to_string(session.adapted->trainable_parameters()));
  report.highlights.emplace_back("seconds", text(number(result["seconds"])));
  report.highlights.emplace_back("peak memory", cat(text(number(result["peak_rss_mb"])), " MB"));
  read_curves(folder, report);
  report.config_yaml = session.config.resolved;
  report.sites = std::move(sites);
  return run_report(report);
}

}  // namespace deeplora
