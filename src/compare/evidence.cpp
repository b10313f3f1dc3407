#include "compare/evidence.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "compare/cell_files.h"
#include "core/csv_text.h"
#include "core/error.h"
#include "core/files.h"
#include "report/axis.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;

double number(const Json& value) { return value.is_number() ? value.get<double>() : std::nan(""); }

LearningCurve read_curve(const fs::path& run, int64_t seed) {
  LearningCurve out{.seed = seed};
  std::error_code absent;
  if (!fs::exists(run / "metrics.jsonl", absent)) return out;
  std::istringstream lines(read_file(run / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const Json row = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!row.is_object() || !row.contains("eval") || !row["eval"].is_object() || row["eval"].empty()) continue;
    out.steps.push_back(number(row.value("step", Json())));
    out.values.push_back(number(row["eval"].front()));  // the headline score comes first
  }
  return out;
}

std::vector<LearnedUpdate> read_updates(const fs::path& run, int64_t seed) {
  const fs::path file = run / "updates.json";
  std::error_code absent;
  if (!fs::exists(file, absent)) return {};
  return read_cell_updates(file.string(), read_file(file), seed);
}

}  // namespace

int64_t layer_of(const std::string& path) {
  std::istringstream parts(path);
  for (std::string part; std::getline(parts, part, '.');)
    if (!part.empty() && part.size() < 6 && part.find_first_not_of("0123456789") == std::string::npos)
      return std::stoll(part);
  return -1;
}

std::vector<RowEvidence> read_evidence(const std::vector<ComparisonRow>& rows, const Comparison& comparison,
                                       const std::function<std::filesystem::path(size_t)>& folder_of) {
  std::vector<RowEvidence> out;
  for (const ComparisonRow& row : rows) {
    RowEvidence evidence;
    for (const int64_t seed : row.seeds) {
      const fs::path run = folder_of(comparison.index_of({row.group, *row.choice.chosen, seed}));
      evidence.curves.push_back(read_curve(run, seed));
      for (LearnedUpdate& update : read_updates(run, seed)) evidence.updates.push_back(std::move(update));
    }
    out.push_back(std::move(evidence));
  }
  return out;
}

std::string updates_csv(const std::vector<RowEvidence>& evidence, const std::vector<ComparisonRow>& rows,
                        const Comparison& comparison) {
  const auto digits = [](double value) {
    char text[40];
    std::snprintf(text, sizeof(text), "%.6g", value);
    return std::string(text);
  };
  std::string out =
      "method,rank,samples,lr,seed,weight,role,layer,out,in,numerical_rank,update_norm,weight_norm,singular_values\n";
  for (size_t i = 0; i < rows.size(); ++i)
    for (const LearnedUpdate& update : evidence[i].updates) {
      std::string name = comparison.plan().methods.at(rows[i].group.method).name, values;
      for (const double value : update.singular_values) values += (values.empty() ? "" : " ") + digits(value);
      for (char& c : name)
        if (c == '"') c = '\'';
      out += cat('"', name, "\",", rows[i].group.rank, ",", rows[i].group.samples, ",",
                 digits(chosen_lr(rows[i].choice)), ",", update.seed, ",", update.path, ",", update.role, ",",
                 update.layer, ",", update.out, ",", update.in, ",", update.numerical_rank, ",",
                 digits(update.update_norm), ",", digits(update.weight_norm), ",", values, "\n");
    }
  return out;
}

std::string learning_curves_csv(const std::vector<RowEvidence>& evidence, const std::vector<ComparisonRow>& rows,
                                const Comparison& comparison) {
  std::string out = csv_line({"method", "rank", "samples", "lr", "seed", "step", "dev"});
  for (size_t i = 0; i < rows.size(); ++i)
    for (const LearningCurve& curve : evidence[i].curves)
      for (size_t k = 0; k < curve.steps.size(); ++k)
        out += csv_line({comparison.plan().methods.at(rows[i].group.method).name, cat(rows[i].group.rank),
                         cat(rows[i].group.samples), csv_number(chosen_lr(rows[i].choice)), cat(curve.seed),
                         csv_number(curve.steps[k]), csv_number(curve.values[k])});
  return out;
}

std::optional<UpdateSummary> summarize_updates(const RowEvidence& evidence) {
  if (evidence.updates.empty()) return std::nullopt;
  std::vector<double> ranks, norms;
  for (const LearnedUpdate& update : evidence.updates) {
    ranks.push_back(static_cast<double>(update.numerical_rank));
    if (update.weight_norm > 0) norms.push_back(update.update_norm / update.weight_norm);
  }
  return UpdateSummary{summarize(ranks), *std::min_element(ranks.begin(), ranks.end()),
                       *std::max_element(ranks.begin(), ranks.end()), summarize(norms).mean};
}

std::vector<std::string> updates_header() {
  return {"method", "rank", "rows", "mean numerical rank", "lowest", "highest", "mean size relative to the weight"};
}

std::vector<std::vector<std::string>> updates_cells(const std::vector<RowEvidence>& evidence,
                                                    const std::vector<ComparisonRow>& rows,
                                                    const Comparison& comparison) {
  std::vector<std::vector<std::string>> out;
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto summary = summarize_updates(evidence[i]);
    if (!summary) continue;
    const Group& group = rows[i].group;
    out.push_back({comparison.plan().methods.at(group.method).name, group.rank > 0 ? cat(group.rank) : "",
                   group.samples > 0 ? cat(group.samples) : "all",
                   number_text(std::round(summary->rank.mean * 10) / 10), number_text(summary->lowest),
                   number_text(summary->highest), number_text(summary->relative_norm, 3)});
  }
  return out;
}

}  // namespace deeplora
