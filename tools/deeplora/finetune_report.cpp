#include "finetune_report.h"

#include <cmath>
#include <map>
#include <sstream>

#include "core/long_work.h"
#include "factorization/diagnostics.h"
#include "report/run_report.h"
#include "run_options.h"
#include "core/number_text.h"
#include "text/row_errors.h"

namespace deeplora {
namespace {

/// A JSON number, or NaN for null and anything else.
double number(const nlohmann::ordered_json& value) { return value.is_number() ? value.get<double>() : std::nan(""); }

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
      for (const auto& item : row["eval"].items())
        add_point(curve_of(report.dev, item.key()), step, number(item.value()));
    if (row.contains("loss")) add_point(report.train_loss, step, number(row["loss"]));
    if (row.contains("lr")) add_point(curve_of(report.learning_rates, "learning rate"), step, number(row["lr"]));
    if (row.contains("samples_per_second"))
      add_point(report.samples_per_second, step, number(row["samples_per_second"]));
  }
}

/// {"rows": {"train": 200}} -> {"train_rows": 200}: the page takes objects for columns of scores. What it has of labels
/// comes otherwise.
nlohmann::ordered_json flat_counts(const nlohmann::ordered_json& result, const nlohmann::ordered_json& details) {
  nlohmann::ordered_json out;
  for (const auto& item : result.items()) {
    if (details.contains(item.key())) continue;
    if (item.key() == "lr_search") continue;  // among the facts
    const bool counts = item.key() == "rows" || item.key() == "truncated";
    if (!counts) out[item.key()] = item.value();
    else
      for (const auto& [split, count] : item.value().items()) out[split + "_" + item.key()] = count;
  }
  return out;
}

constexpr size_t kMostRows = 10, kLongestText = 400;

std::string cell_shown(const nlohmann::ordered_json& value) {
  if (value.is_string()) return shortened(value.get<std::string>(), kLongestText);
  if (value.is_number()) return text(value.get<double>());
  return value.is_null()
             ? ""
             : shortened(value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace), kLongestText);
}

/// Texts of rows by where they stand in their file: a task may join or leave out rows.
class RowTexts {
 public:
  RowTexts(const Task& task, const std::vector<Row>& rows) : columns_(task.columns(false)) {
    for (const Row& row : rows) rows_.emplace(row.source, &row);
  }
  std::string of(const std::string& source) const {
    const auto found = rows_.find(source);
    if (found == rows_.end()) return source;
    std::string out;
    for (const auto& column : columns_) {
      const auto cell = found->second->fields.find(column);
      if (cell != found->second->fields.end()) out += (out.empty() ? "" : "\n") + cell_shown(*cell);
    }
    return out.empty() ? source : out;
  }

 private:
  std::vector<std::string> columns_;
  std::map<std::string, const Row*> rows_;
};

RunRows rows_of(const Session& session, const RunFacts& facts) {
  const Assessment& found = facts.scored.found;
  RunRows out{.split = facts.scored.split, .details = found.details};
  out.trained = session.task().label_counts(session.train.examples);
  const RowTexts texts(session.task(), facts.scored.split == "test" ? facts.test.rows : facts.dev.rows);
  const auto row = [&](size_t i, double number) {
    const RowResult& one = found.rows[i];
    return RunRow{.text = texts.of(one.source),
                  .label = cell_shown(one.label),
                  .prediction = cell_shown(one.prediction),
                  .number = number};
  };
  for (const size_t i : surest_mistakes(found, kMostRows))
    out.mistakes.push_back(row(i, confidence(found, found.rows[i])));
  for (const size_t i : least_certain(found, kMostRows))
    out.uncertain.push_back(row(i, confidence(found, found.rows[i])));
  for (const size_t i : largest_errors(found, kMostRows))
    out.errors.push_back(row(i, found.rows[i].prediction.get<double>() - found.rows[i].label.get<double>()));
  for (const RowResult& one : found.rows)
    if (one.label.is_number() && one.prediction.is_number()) {
      out.expected.push_back(one.label.get<double>());
      out.predicted.push_back(one.prediction.get<double>());
    }
  if (session.task().outputs() == 0)
    for (size_t i = 0; i < std::min(found.rows.size(), kShownTexts); ++i) {
      if (!found.rows[i].prediction.is_string()) continue;
      out.generated.push_back(row(i, 0));
      if (i < facts.texts_before.size()) out.generated.back().before = shortened(facts.texts_before[i], kLongestText);
    }
  return out;
}

/// Where it came from.
std::vector<std::pair<std::string, std::string>> facts_of(const Session& session, const RunFacts& facts) {
  std::vector<std::pair<std::string, std::string>> out{{"command", facts.command},
                                                       {"model", session.config.model.path.string()}};
  const DataConfig& data = session.config.data;
  const auto file = [&](const char* name, const std::filesystem::path& path, size_t rows, int64_t cut) {
    if (path.empty()) return;
    out.emplace_back(name,
                     cat(path.string(), ": ", with_commas(rows), " rows",
                         cut > 0 ? cat(", ", with_commas(static_cast<size_t>(cut)), " of them cut to data.max_length")
                                 : std::string()));
  };
  file("training rows", data.train, session.train.rows.size(), session.train.truncated);
  const auto drawn = [&](const std::filesystem::path& named, const LoadedData& rows) {
    return named.empty() && !rows.rows.empty() ? data.train : named;
  };
  file(data.dev.empty() ? "dev rows, drawn" : "dev rows", drawn(data.dev, facts.dev), facts.dev.rows.size(),
       facts.dev.truncated);
  file(data.test.empty() ? "test rows, drawn" : "test rows", drawn(data.test, facts.test), facts.test.rows.size(),
       facts.test.truncated);
  return out;
}

/// What train.lr: auto tried: "0.0002: 0.61, 0.002: 0.72; 0.002 is taken".
std::string rates_tried(const nlohmann::ordered_json& search) {
  std::vector<std::string> tried;
  for (const auto& trial : search["trials"])
    tried.push_back(cat(text(number(trial["lr"])), ": ", text(number(trial["score"]))));
  return cat("dev ", search["metric"].get<std::string>(), " after ", search["trials"].front()["steps"].get<int64_t>(),
             " steps: ", join(tried), "; ", text(number(search["lr"])), " is taken");
}

}  // namespace

std::vector<RunSite> describe_sites(const Session& session) {
  torch::NoGradGuard no_grad;
  std::vector<RunSite> out;
  LongWork work("singular values of the learned updates", static_cast<int64_t>(session.adapted->adapters().size()));
  for (size_t i = 0; i < session.adapted->adapters().size(); ++i) {
    const auto& [site, adapter] = session.adapted->adapters()[i];
    work.advance();
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
    out.push_back({{"path", site.path},
                   {"role", site.role},
                   {"shape", {site.out, site.in}},
                   {"parameters", site.parameters},
                   {"update_norm", site.update_norm},
                   {"weight_norm", site.weight_norm},
                   {"numerical_rank", *site.numerical_rank},
                   {"singular_values", leading}});
  }
  return out;
}

std::vector<std::string> next_commands(const Session& session, const RunFolder& folder) {
  const std::string run = shell_word(folder.path().string());
  const bool has_rows = session.config.data.has_test() || session.config.data.has_dev();
  std::string texts;
  if (session.task().outputs() == 0) texts = " --prompt \"...\"";
  else
    for (size_t i = 0; i < session.task().columns(false).size(); ++i) texts += " --text \"...\"";
  const auto [form, ending] = session.files->merged_form();
  const std::string name = shell_word(folder.path().lexically_normal().filename().string() + "-merged" + ending);
  return {cat("deeplora evaluate ", run, has_rows ? "" : " --data FILE"), cat("deeplora predict ", run, texts),
          cat("deeplora export ", run, " --to ", form, " --output ", name)};
}

RunReport finetune_report(const Session& session, std::vector<RunSite> sites, const nlohmann::ordered_json& result,
                          const RunFolder& folder, const RunFacts& facts) {
  RunReport report;
  const std::string plain = cat(session.config.adapter.method, " on ", session.config.data.task);
  report.title = session.config.report.title.empty() ? plain : session.config.report.title;
  report.subtitle = cat(report.title == plain ? "" : plain + ", ", session.files->file().filename().string(), ", ",
                        session.train.rows.size(), " training rows");
  report.result = flat_counts(result, facts.scored.found.details);
  if (result["best"].contains("step")) report.best_step = number(result["best"]["step"]);
  for (const char* part : {"best", "test"})
    for (const auto& item : result[part].items()) {
      if (report.metric.empty()) report.metric = item.key();
      report.highlights.emplace_back(cat(std::string(part) == "best" ? "dev" : part, " ", item.key()),
                                     text(number(item.value())));
      break;
    }
  report.highlights.emplace_back("trained parameters",
                                 with_commas(static_cast<size_t>(session.adapted->trainable_parameters())));
  report.highlights.emplace_back("seconds", text(number(result["seconds"])));
  report.highlights.emplace_back("peak memory", cat(text(number(result["peak_rss_mb"])), " MB"));
  report.loss_label = "loss per " + session.task().loss_unit();
  read_curves(folder, report);
  if (!facts.scored.split.empty()) report.rows = rows_of(session, facts);
  report.facts = facts_of(session, facts);
  if (result.contains("lr_search")) report.facts.emplace_back("learning rates", rates_tried(result["lr_search"]));
  report.next = facts.next;
  report.config_yaml = session.config.resolved;
  report.sites = std::move(sites);
  return report;
}

}  // namespace deeplora
