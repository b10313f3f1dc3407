#include "compare/table.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "core/error.h"
#include "report/axis.h"

namespace deeplora {
namespace {

/// Three decimals, a sign for differences.
std::string fixed(double value, bool with_sign = false) {
  if (std::isnan(value)) return "undefined";
  char text[64];
  std::snprintf(text, sizeof(text), with_sign ? "%+.3f" : "%.3f", value);
  const std::string out = text;
  return out == "-0.000" || out == "+0.000" ? "0.000" : out;
}

std::string p_text(double p) {
  if (std::isnan(p)) return "";
  return p < 0.001 ? "<0.001" : fixed(p);
}

/// "LoRA at rank 4" where a row without a rank stands beside one of several ranks of the baseline.
std::string baseline_rank(const ComparisonRow& row, const Comparison& comparison) {
  const ComparePlan& plan = comparison.plan();
  if (row.group.rank > 0 || row.baseline.rank == 0 || plan.ranks.size() < 2) return "";
  return cat(plan.methods.at(row.baseline.method).name, " at rank ", row.baseline.rank);
}

std::string rank_text(const ComparisonRow& row, const Comparison& comparison) {
  if (row.group.rank > 0) return cat(row.group.rank);
  const std::string beside = baseline_rank(row, comparison);
  return beside.empty() ? "" : cat("none (", beside, ")");
}

std::string interval(const PairedDifference& d) { return cat(fixed(d.low, true), " to ", fixed(d.high, true)); }

std::string spread(const Summary& s) {
  if (s.n == 0) return "";
  return s.n < 2 ? fixed(s.mean) : cat(fixed(s.mean), " ± ", fixed(s.sd));
}

ComparisonRow make_row(const Comparison& comparison, const Group& group, const Group& baseline) {
  ComparisonRow row;
  row.group = group;
  row.baseline = baseline;
  row.choice = comparison.choice(group);
  row.adjusted_p = std::nan("");
  std::vector<double> dev, seconds, peak, speed, steps;
  for (const int64_t seed : comparison.plan().seeds) {
    if (!row.choice.chosen) break;
    const CellOutcome& outcome = comparison.outcome(comparison.index_of({group, *row.choice.chosen, seed}));
    if (outcome.state != CellState::done) continue;
    row.seeds.push_back(seed);
    row.test_scores.push_back(outcome.test);
    row.test_step = std::max(row.test_step, outcome.test_step);
    dev.push_back(outcome.dev);
    seconds.push_back(outcome.seconds);
    peak.push_back(outcome.peak_rss_mb);
    speed.push_back(outcome.samples_per_second);
    steps.push_back(outcome.best_step);
    row.parameters = outcome.parameters;
  }
  row.test = summarize(row.test_scores);
  row.dev = summarize(dev);
  row.seconds = summarize(seconds);
  row.peak_rss_mb = summarize(peak);
  row.samples_per_second = summarize(speed);
  row.best_step = summarize(steps);
  return row;
}

PairedDifference difference_of(const ComparisonRow& row, const ComparisonRow& baseline) {
  std::vector<double> ours, theirs;
  for (size_t i = 0; i < row.seeds.size(); ++i)
    for (size_t j = 0; j < baseline.seeds.size(); ++j)
      if (row.seeds[i] == baseline.seeds[j]) {
        ours.push_back(row.test_scores[i]);
        theirs.push_back(baseline.test_scores[j]);
      }
  return paired_difference(ours, theirs, std::max(row.test_step, baseline.test_step));
}

/// "LoRA 0.01 (highest)" of every choice at the edge of its grid.
std::string edge_note(const std::vector<std::pair<std::string, const LrChoice*>>& choices) {
  std::vector<std::string> edges;
  for (const auto& [name, choice] : choices)
    if (choice->edge != LrChoice::Edge::no)
      edges.push_back(cat(name, " ", number_text(chosen_lr(*choice), 6), " (", edge_text(choice->edge), ")"));
  return edges.empty() ? ""
                       : cat(" Learning rate at the edge of its grid: ", join(edges), "; a better one may lie beyond.");
}

}  // namespace

const char* fate_name(LrOutcome::Fate fate) {
  using Fate = LrOutcome::Fate;
  switch (fate) {
    case Fate::chosen: return "chosen";
    case Fate::tied: return "equal on dev";
    case Fate::lost: return "worse on dev";
    case Fate::dropped: return "given up early";
    case Fate::diverged: return "diverged";
    case Fate::failed: return "failed";
    case Fate::open: break;
  }
  return "unfinished";
}

const char* finding_name(Finding found) {
  switch (found) {
    case Finding::better: return "better";
    case Finding::worse: return "worse";
    case Finding::not_shown: return "no difference shown";
    case Finding::not_after_adjustment: return "no difference shown after adjustment";
    case Finding::no_spread: return "cannot be judged: all differences equal";
    case Finding::unknown: break;
  }
  return "unknown";
}

std::string edge_text(LrChoice::Edge edge) {
  return edge == LrChoice::Edge::no ? "" : edge == LrChoice::Edge::lowest ? "lowest" : "highest";
}

double chosen_lr(const LrChoice& choice) { return choice.chosen ? choice.tried[*choice.chosen].lr : std::nan(""); }

std::vector<ComparisonRow> comparison_rows(const Comparison& comparison) {
  const ComparePlan& plan = comparison.plan();
  std::vector<ComparisonRow> rows;
  std::vector<std::optional<PairedDifference>> differences;
  std::set<std::pair<Group, Group>> seen;
  for (const int64_t samples : plan.samples)
    for (const int64_t rank : plan.ranks) {
      const Group beside = comparison.group_at(plan.baseline, rank, samples);
      const ComparisonRow baseline = make_row(comparison, beside, beside);
      for (size_t m = 0; m < plan.methods.size(); ++m) {
        const Group group = comparison.group_at(m, rank, samples);
        if (!seen.emplace(group, beside).second) continue;
        rows.push_back(make_row(comparison, group, beside));
        if (m != plan.baseline) {
          rows.back().difference = difference_of(rows.back(), baseline);
          rows.back().baseline_choice = baseline.choice;
        }
        differences.push_back(rows.back().difference);
      }
    }
  const std::vector<double> adjusted = holm_adjusted(differences);
  for (size_t i = 0; i < rows.size(); ++i) rows[i].adjusted_p = adjusted[i];
  return rows;
}

size_t family_size(const std::vector<ComparisonRow>& rows) {
  return static_cast<size_t>(std::count_if(rows.begin(), rows.end(), [](const ComparisonRow& row) {
    return row.difference && (row.difference->no_spread || !std::isnan(row.difference->p));
  }));
}

Finding finding(const ComparisonRow& row, bool higher_is_better) {
  if (!row.difference) return Finding::unknown;
  const PairedDifference& d = *row.difference;
  if (d.no_spread) return Finding::no_spread;
  if (std::isnan(d.p)) return Finding::unknown;
  if (d.low <= 0 && d.high >= 0) return Finding::not_shown;
  if (!(row.adjusted_p < kLevel)) return Finding::not_after_adjustment;
  return (d.mean > 0) == higher_is_better ? Finding::better : Finding::worse;
}

std::string row_title(const ComparisonRow& row, const Comparison& comparison) {
  const std::string beside = baseline_rank(row, comparison);
  return cat(
      comparison.plan().methods.at(row.group.method).name, row.group.rank > 0 ? cat(", rank ", row.group.rank) : "",
      row.group.samples > 0 ? cat(", ", row.group.samples, " rows") : "", beside.empty() ? "" : cat(" (", beside, ")"));
}

std::string verdict(const ComparisonRow& row, const Comparison& comparison, const std::string& metric) {
  const ComparePlan& plan = comparison.plan();
  const std::string &ours = plan.methods.at(row.group.method).name, &theirs = plan.methods.at(plan.baseline).name;
  const std::string head = cat(row_title(row, comparison), ": ");
  if (!row.difference) return cat(head, "the baseline.");
  if (!row.choice.chosen) return cat(head, "no result, as no learning rate has a finished run.");
  const PairedDifference& d = *row.difference;
  if (d.pairs == 0) return cat(head, "cannot be compared, as no seed is finished for both it and ", theirs, ".");
  if (d.pairs < 2)
    return cat(head, fixed(d.mean, true), " ", metric, " against ", theirs,
               " with one seed; one seed says nothing about chance.");
  if (d.no_spread)
    return cat(head, "cannot be judged: ", fixed(d.mean, true), " ", metric, " against ", theirs, " with each of ",
               d.pairs, " seeds; differences that are all equal say nothing about chance. More seeds do.");
  if (std::isnan(d.p))
    return cat(head, "cannot be compared with ", theirs, ", as the test score of some seed is undefined.");
  const std::string numbers = cat("95 % interval ", interval(d), ", ", d.higher, " of ", d.pairs, " seeds higher");
  const std::string size = fixed(std::abs(d.mean));
  std::string out;
  switch (finding(row, comparison.higher_is_better())) {
    case Finding::better:
      out = cat(head, ours, " is better than ", theirs, " by ", size, " ", metric, " (", numbers, ").");
      break;
    case Finding::worse:
      out = cat(head, ours, " is worse than ", theirs, " by ", size, " ", metric, " (", numbers, ").");
      break;
    case Finding::not_after_adjustment:
      out = cat(head, "no difference to ", theirs, " shown: ", fixed(d.mean, true), " ", metric, " (", numbers,
                ") excludes zero alone, but not as one of several comparisons (adjusted p ", p_text(row.adjusted_p),
                ").");
      break;
    default:
      out = cat(head, "no difference to ", theirs, " shown: ", fixed(d.mean, true), " ", metric, " (", numbers, ").");
  }
  if (d.pairs < plan.seeds.size())
    out += cat(" Only ", d.pairs, " of ", plan.seeds.size(), " seeds are finished for both.");
  return out + edge_note({{ours, &row.choice}, {theirs, &row.baseline_choice}});
}

std::string overall_verdict(const std::vector<ComparisonRow>& rows, const Comparison& comparison,
                            const std::string& metric) {
  size_t compared = 0, better = 0, worse = 0, edges = 0, unknown = 0, no_spread = 0;
  for (const ComparisonRow& row : rows) {
    if (!row.difference) continue;
    const Finding found = finding(row, comparison.higher_is_better());
    no_spread += found == Finding::no_spread;
    const bool judged = found != Finding::unknown && found != Finding::no_spread;
    unknown += !judged;
    compared += judged;
    better += found == Finding::better;
    worse += found == Finding::worse;
    const bool at_edge = row.choice.edge != LrChoice::Edge::no || row.baseline_choice.edge != LrChoice::Edge::no;
    edges += judged && at_edge;
  }
  const std::string& baseline = comparison.plan().methods.at(comparison.plan().baseline).name;
  std::string out;
  if (compared == 0 && no_spread > 0) {
    out = cat("Nothing is shown: in no comparison with ", baseline, " do the seeds' differences vary.");
  } else if (compared == 0) {
    out = cat("Nothing is shown: no comparison with ", baseline, " has two finished seeds.");
  } else if (better + worse == 0) {
    out = cat("No difference to ", baseline, " in ", metric, " is shown in any of ", compared,
              compared == 1 ? " comparison." : " comparisons.");
  } else {
    out = cat("Of ", compared, compared == 1 ? " comparison" : " comparisons", " with ", baseline, " in ", metric, ", ",
              better, better == 1 ? " shows a better method, " : " show a better method, ", worse,
              worse == 1 ? " a worse one, " : " worse ones, ", compared - better - worse, " no difference.");
  }
  if (compared > 0 && unknown > 0)
    out += cat(" ", unknown, unknown == 1 ? " more cannot be judged." : " more cannot be judged.");
  if (edges > 0)
    out += cat(" In ", edges,
               " of them a learning rate was chosen at the edge of its grid: widen the grid before relying on them.");
  return out;
}

std::vector<std::string> missing_cells(const Comparison& comparison) {
  std::vector<std::string> out;
  for (size_t i = 0; i < comparison.cells().size(); ++i) {
    const CellOutcome& outcome = comparison.outcome(i);
    if (outcome.state != CellState::failed && outcome.state != CellState::diverged) continue;
    out.push_back(cat(comparison.title(comparison.cells()[i]),
                      outcome.state == CellState::failed ? " failed: " : " diverged: ", outcome.message));
  }
  const size_t dropped = comparison.count(CellState::dropped), open = comparison.count(CellState::open);
  if (dropped > 0)
    out.push_back(cat(dropped, dropped == 1 ? " cell was" : " cells were",
                      " not run: the learning rate was given up early (see the learning rates)."));
  if (open > 0)
    out.push_back(
        cat(open, open == 1 ? " cell is" : " cells are", " not finished yet: the same command goes on with them."));
  return out;
}

std::vector<std::string> method_notes(const std::vector<ComparisonRow>& rows, const Comparison& comparison,
                                      const std::string& metric) {
  const ComparePlan& plan = comparison.plan();
  const size_t family = family_size(rows);
  double step = 0;
  for (const ComparisonRow& row : rows) step = std::max(step, row.difference ? row.difference->step : 0);
  std::vector<std::string> out;
  out.push_back(
      cat("A seed draws the training rows, the new head, the adapters' start, the order of batches and dropout; every "
          "method "
          "runs with the same ",
          plan.seeds.size(), plan.seeds.size() == 1 ? " seed" : " seeds",
          ". Each method's learning rate is the one with the best mean dev ", metric,
          " over the seeds, for each rank and number of training "
          "rows by itself; of equals the lowest is taken. The test rows are scored once per run and decide nothing."));
  out.push_back(
      "± is the standard deviation over seeds. Differences are taken seed by seed; their 95 % interval is Student's t "
      "over "
      "those differences. It speaks of "
      "new seeds (other training rows and starts) on these same test rows, not of other test rows.");
  if (step > 0)
    out.push_back(
        cat("Test ", metric, " moves in steps of ", number_text(step, 3),
            ". Scores that coarse agree over a few seeds by chance, so the square of one step is added to the variance "
            "of the differences before interval and p value are computed."));
  out.push_back(
      cat("A difference counts as shown when its p value, adjusted by Holm's method for ",
          family == 1 ? "the one comparison" : cat("all ", family, " comparisons"),
          " of this table, is below 0.05. The intervals themselves are not adjusted. Where every seed has the same "
          "difference there is no spread to judge by: nothing is said of that comparison, but it counts as one."));
  if (plan.early_stop.seeds > 0)
    out.push_back(cat(
        "A learning rate is given up when its mean dev ", metric, " over the first ", plan.early_stop.seeds,
        " seeds is more than ", number_text(plan.early_stop.margin),
        comparison.higher_is_better() ? "" : " (as a share)",
        " worse than that of the best learning rate of the same method, rank and rows that does not diverge, or when "
        "it diverges. Only dev, whole runs and one method's own "
        "learning rates are looked at, so no method is judged by another and none for a slow start."));
  return out;
}

std::vector<std::string> table_header(const std::string& metric) {
  return {"method",
          "rank",
          cat("test ", metric),
          "difference",
          "finding",
          "95 % interval",
          "adjusted p",
          "seeds higher",
          "seeds",
          "rows",
          cat("dev ", metric),
          "lr",
          "trained parameters",
          "seconds",
          "peak MB"};
}

std::vector<std::vector<std::string>> table_cells(const std::vector<ComparisonRow>& rows,
                                                  const Comparison& comparison) {
  std::vector<std::vector<std::string>> out;
  for (const ComparisonRow& row : rows) {
    const bool judged = row.difference && row.difference->pairs > 0;
    const bool interval_known = judged && !std::isnan(row.difference->p);
    std::string lr = row.choice.chosen ? number_text(chosen_lr(row.choice), 6) : "none";
    if (row.choice.edge != LrChoice::Edge::no) lr += cat(" (", edge_text(row.choice.edge), ")");
    out.push_back({comparison.plan().methods.at(row.group.method).name, rank_text(row, comparison), spread(row.test),
                   judged ? fixed(row.difference->mean, true) : "",
                   row.difference ? finding_name(finding(row, comparison.higher_is_better())) : "baseline",
                   interval_known ? interval(*row.difference) : "", p_text(row.adjusted_p),
                   judged ? cat(row.difference->higher, " of ", row.difference->pairs) : "", cat(row.seeds.size()),
                   row.group.samples > 0 ? cat(row.group.samples) : "all", spread(row.dev), lr,
                   row.seeds.empty() ? "" : number_text(row.parameters, 9),
                   row.seeds.empty() ? "" : number_text(std::round(row.seconds.mean * 10) / 10, 6),
                   row.seeds.empty() ? "" : number_text(std::round(row.peak_rss_mb.mean), 6)});
  }
  return out;
}

SplitTable without_equal_columns(const std::vector<std::string>& header,
                                 const std::vector<std::vector<std::string>>& rows) {
  SplitTable out;
  out.rows.resize(rows.size());
  for (size_t c = 0; c < header.size(); ++c) {
    const bool equal = c > 0 && rows.size() > 1 &&
                       std::all_of(rows.begin(), rows.end(), [&](const auto& row) { return row[c] == rows[0][c]; });
    if (equal) {
      if (!rows[0][c].empty()) out.equal.emplace_back(header[c], rows[0][c]);
      continue;
    }
    out.header.push_back(header[c]);
    for (size_t r = 0; r < rows.size(); ++r) out.rows[r].push_back(rows[r][c]);
  }
  return out;
}

std::vector<std::string> rates_header() { return {"method", "rank", "rows", "lr", "seeds", "dev", "outcome", "why"}; }

std::vector<std::vector<std::string>> rates_cells(const Comparison& comparison) {
  std::vector<std::vector<std::string>> out;
  for (const Group& group : comparison.groups())
    for (const LrOutcome& tried : comparison.choice(group).tried)
      out.push_back({comparison.plan().methods.at(group.method).name, group.rank > 0 ? cat(group.rank) : "",
                     group.samples > 0 ? cat(group.samples) : "all", number_text(tried.lr, 6), cat(tried.dev.size()),
                     spread(tried.summary), fate_name(tried.fate), tried.reason});
  return out;
}

}  // namespace deeplora
