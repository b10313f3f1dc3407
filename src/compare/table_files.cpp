// The table as files: JSON, CSV, Markdown.
#include <cmath>
#include <cstdio>
#include <string_view>

#include "compare/table.h"
#include "core/csv_text.h"
#include "core/error.h"

namespace deeplora {
namespace {

nlohmann::ordered_json number(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
}

nlohmann::ordered_json summary_json(const Summary& s) {
  return {{"n", s.n}, {"mean", number(s.mean)}, {"sd", number(s.sd)}};
}

std::string exact(double value) {
  if (std::isnan(value)) return "";
  char text[40];
  std::snprintf(text, sizeof(text), "%.10g", value);
  return text;
}

const char* state_name(CellState state) {
  switch (state) {
    case CellState::done: return "done";
    case CellState::diverged: return "diverged";
    case CellState::failed: return "failed";
    case CellState::dropped: return "dropped";
    case CellState::open: break;
  }
  return "open";
}

}  // namespace

nlohmann::ordered_json comparison_json(const std::vector<ComparisonRow>& rows, const Comparison& comparison,
                                       const std::string& metric) {
  const ComparePlan& plan = comparison.plan();
  nlohmann::ordered_json out;
  out["metric"] = metric;
  out["higher_is_better"] = comparison.higher_is_better();
  out["baseline"] = plan.methods.at(plan.baseline).name;
  out["verdict"] = overall_verdict(rows, comparison, metric);
  out["comparisons"] = family_size(rows);
  out["cells"] = {{"all", comparison.cells().size()}};
  for (const CellState state :
       {CellState::done, CellState::diverged, CellState::failed, CellState::dropped, CellState::open})
    out["cells"][state_name(state)] = comparison.count(state);
  out["rows"] = nlohmann::ordered_json::array();
  for (const ComparisonRow& row : rows) {
    nlohmann::ordered_json json = {{"method", plan.methods.at(row.group.method).name},
                                   {"rank", row.group.rank},
                                   {"samples", row.group.samples},
                                   {"baseline_rank", row.baseline.rank},
                                   {"lr", number(chosen_lr(row.choice))},
                                   {"lr_edge", edge_text(row.choice.edge)},
                                   {"complete", row.choice.complete},
                                   {"seeds", row.seeds}};
    json["test_scores"] = nlohmann::ordered_json::array();
    for (const double score : row.test_scores) json["test_scores"].push_back(number(score));
    json["test"] = summary_json(row.test);
    json["dev"] = summary_json(row.dev);
    json["seconds"] = summary_json(row.seconds);
    json["peak_rss_mb"] = summary_json(row.peak_rss_mb);
    json["samples_per_second"] = summary_json(row.samples_per_second);
    json["best_step"] = summary_json(row.best_step);
    json["trainable_parameters"] = number(row.parameters);
    if (row.difference) {
      const PairedDifference& d = *row.difference;
      json["difference"] = {{"pairs", d.pairs},
                            {"mean", number(d.mean)},
                            {"step", number(d.step)},
                            {"sd", number(d.sd)},
                            {"low", number(d.low)},
                            {"high", number(d.high)},
                            {"p", number(d.p)},
                            {"adjusted_p", number(row.adjusted_p)},
                            {"higher", d.higher},
                            {"lower", d.lower},
                            {"equal", d.equal},
                            {"no_spread", d.no_spread},
                            {"finding", finding_name(finding(row, comparison.higher_is_better()))}};
      json["verdict"] = verdict(row, comparison, metric);
    }
    out["rows"].push_back(std::move(json));
  }
  out["learning_rates"] = nlohmann::ordered_json::array();
  for (const Group& group : comparison.groups())
    for (const LrOutcome& tried : comparison.choice(group).tried)
      out["learning_rates"].push_back({{"method", plan.methods.at(group.method).name},
                                       {"rank", group.rank},
                                       {"samples", group.samples},
                                       {"lr", tried.lr},
                                       {"dev", summary_json(tried.summary)},
                                       {"fate", fate_name(tried.fate)},
                                       {"reason", tried.reason}});
  out["missing"] = missing_cells(comparison);
  return out;
}

std::string rows_csv(const std::vector<ComparisonRow>& rows, const Comparison& comparison) {
  std::string out = csv_line({"method",
                              "rank",
                              "samples",
                              "lr",
                              "lr_edge",
                              "seeds",
                              "test_mean",
                              "test_sd",
                              "dev_mean",
                              "dev_sd",
                              "pairs",
                              "difference",
                              "low",
                              "high",
                              "p",
                              "adjusted_p",
                              "higher",
                              "lower",
                              "equal",
                              "finding",
                              "trainable_parameters",
                              "seconds",
                              "samples_per_second",
                              "peak_rss_mb",
                              "baseline_rank",
                              "step"});
  for (const ComparisonRow& row : rows) {
    const bool compared = row.difference.has_value();
    const PairedDifference d = row.difference.value_or(PairedDifference{});
    const auto of_difference = [&](double value) { return compared ? exact(value) : std::string(); };
    out += csv_line({comparison.plan().methods.at(row.group.method).name,
                     row.group.rank > 0 ? cat(row.group.rank) : "",
                     row.group.samples > 0 ? cat(row.group.samples) : "",
                     exact(chosen_lr(row.choice)),
                     edge_text(row.choice.edge),
                     cat(row.seeds.size()),
                     exact(row.test.mean),
                     exact(row.test.sd),
                     exact(row.dev.mean),
                     exact(row.dev.sd),
                     compared ? cat(d.pairs) : "",
                     of_difference(d.mean),
                     of_difference(d.low),
                     of_difference(d.high),
                     of_difference(d.p),
                     exact(row.adjusted_p),
                     compared ? cat(d.higher) : "",
                     compared ? cat(d.lower) : "",
                     compared ? cat(d.equal) : "",
                     compared ? finding_name(finding(row, comparison.higher_is_better())) : "baseline",
                     exact(row.parameters),
                     exact(row.seconds.mean),
                     exact(row.samples_per_second.mean),
                     exact(row.peak_rss_mb.mean),
                     row.baseline.rank > 0 ? cat(row.baseline.rank) : "",
                     of_difference(d.step)});
  }
  return out;
}

std::string cells_csv(const Comparison& comparison) {
  std::string out =
      csv_line({"cell", "method", "rank", "samples", "lr", "seed", "state", "dev", "test", "best_step", "steps",
                "seconds", "samples_per_second", "peak_rss_mb", "trainable_parameters", "message"});
  for (size_t i = 0; i < comparison.cells().size(); ++i) {
    const Cell& cell = comparison.cells()[i];
    const CellOutcome& o = comparison.outcome(i);
    const MethodPlan& method = comparison.plan().methods.at(cell.group.method);
    const auto of_done = [&](double value) { return o.state == CellState::done ? exact(value) : std::string(); };
    out += csv_line({comparison.name(cell), method.name, cell.group.rank > 0 ? cat(cell.group.rank) : "",
                     cell.group.samples > 0 ? cat(cell.group.samples) : "", exact(method.lr.at(cell.lr)),
                     cat(cell.seed), state_name(o.state), of_done(o.dev), of_done(o.test), of_done(o.best_step),
                     of_done(o.steps), of_done(o.seconds), of_done(o.samples_per_second), of_done(o.peak_rss_mb),
                     of_done(o.parameters), o.message});
  }
  return out;
}

namespace {

std::string markdown_row(const std::vector<std::string>& cells) {
  std::string out = "|";
  for (std::string cell : cells) {
    for (size_t at = 0; (at = cell.find('|', at)) != std::string::npos; at += 2) cell.insert(at, "\\");
    for (char& c : cell)
      if (c == '\n') c = ' ';
    out += cat(" ", cell, " |");
  }
  return out + "\n";
}

}  // namespace

std::string markdown_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows) {
  std::string out = markdown_row(header) + markdown_row(std::vector<std::string>(header.size(), "---"));
  for (const auto& row : rows) out += markdown_row(row);
  return out;
}

namespace {

/// A text as LaTeX takes it.
std::string latex_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("&%$#_{}").find(c) != std::string_view::npos) out += cat("\\", c);
    else if (c == '\\') out += "\\textbackslash{}";
    else if (c == '~') out += "\\textasciitilde{}";
    else if (c == '^') out += "\\textasciicircum{}";
    else if (c == '<' || c == '>' || c == '|') out += cat("$", c, "$");
    else out += c == '\n' ? ' ' : c;
  }
  for (const auto& [from, to] :
       {std::pair<std::string, std::string>{"±", "$\\pm$"}, {"−", "$-$"}, {"–", "--"}, {"…", "\\dots{}"}})
    for (size_t at; (at = out.find(from)) != std::string::npos;) out.replace(at, from.size(), to);
  // A sign in front of a number is a minus, no hyphen.
  if (out.size() > 1 && out[0] == '-' && (out[1] == '.' || (out[1] >= '0' && out[1] <= '9')))
    out = "$-$" + out.substr(1);
  return out;
}

std::string latex_row(const std::vector<std::string>& cells) {
  std::string out = " ";
  for (size_t i = 0; i < cells.size(); ++i) out += cat(i ? " & " : " ", latex_text(cells[i]));
  return out + " \\\\\n";
}

}  // namespace

std::string latex_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows,
                        const std::string& caption) {
  std::string comment;
  for (const char c : caption) comment += c == '\n' || c == '\r' ? ' ' : c;
  std::string out = cat("% ", comment, "\n\\begin{tabular}{", std::string(header.size(), 'l'), "}\n  \\hline\n",
                        latex_row(header), "  \\hline\n");
  for (const auto& row : rows) out += latex_row(row);
  return out + "  \\hline\n\\end{tabular}\n";
}

std::string comparison_markdown(const std::vector<ComparisonRow>& rows, const Comparison& comparison,
                                const std::string& title, const std::string& metric, const std::string& more,
                                const std::string& config_yaml) {
  std::string out = cat("# ", title, "\n\n**", overall_verdict(rows, comparison, metric), "**\n\n");
  for (const ComparisonRow& row : rows)
    if (row.difference) out += cat("- ", verdict(row, comparison, metric), "\n");
  out += "\n" + markdown_table(table_header(metric), table_cells(rows, comparison)) + "\n";
  for (const std::string& note : method_notes(rows, comparison, metric)) out += note + "\n\n";
  const auto missing = missing_cells(comparison);
  if (!missing.empty()) out += "## Cells without a result\n\n";
  for (const std::string& line : missing) out += cat("- ", line, "\n");
  out += cat(missing.empty() ? "" : "\n", more, "## Learning rates\n\n",
             markdown_table(rates_header(), rates_cells(comparison)));
  return out + cat("\n## Configuration\n\n```yaml\n", config_yaml, "```\n");
}

}  // namespace deeplora
