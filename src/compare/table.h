// The result of a comparison as rows of numbers, and in words. Free of LibTorch.
#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "compare/comparison.h"

namespace deeplora {

/// One method at one rank and number of training rows, at its chosen learning rate, beside the baseline at that rank.
struct ComparisonRow {
  Group group;
  Group baseline;  ///< the same group in the baseline's own rows
  LrChoice choice;
  std::vector<int64_t> seeds;       ///< that are done
  std::vector<double> test_scores;  ///< of those seeds
  double test_step = 0;             ///< smallest step of those scores
  Summary test, dev, seconds, peak_rss_mb, samples_per_second, best_step;
  double parameters = 0;
  std::optional<PairedDifference>
      difference;            ///< to the baseline, over the seeds that both have; absent for the baseline itself
  LrChoice baseline_choice;  ///< with `difference`
  double adjusted_p = 0;     ///< Holm over all rows of the table; NaN without an interval
};

/// Rows by number of training rows, rank, method; the baseline's own included. Every comparison once: a method without
/// a rank has one row, not one for each rank of the others (but one for each rank of the baseline, when that has
/// ranks).
std::vector<ComparisonRow> comparison_rows(const Comparison& comparison);

/// What a row's difference means: "better" or "worse" only when the adjusted p is below 5 %. no_spread: every seed has
/// the same difference, so that chance cannot be judged.
enum class Finding { better, worse, not_shown, not_after_adjustment, no_spread, unknown };
Finding finding(const ComparisonRow& row, bool higher_is_better);

const char* finding_name(Finding found);
const char* fate_name(LrOutcome::Fate fate);
/// "lowest", "highest" or "".
std::string edge_text(LrChoice::Edge edge);
/// NaN when none is chosen.
double chosen_lr(const LrChoice& choice);

/// One sentence or two: by how much, the interval, the seeds' signs, and what weakens it (few seeds, a learning rate at
/// the edge of its grid, cells that are missing).
std::string verdict(const ComparisonRow& row, const Comparison& comparison, const std::string& metric);

/// The comparison as a whole: how many differences are shown, of how many.
std::string overall_verdict(const std::vector<ComparisonRow>& rows, const Comparison& comparison,
                            const std::string& metric);

/// Cells that did not finish, one sentence each; empty when there are none.
std::vector<std::string> missing_cells(const Comparison& comparison);

/// How many comparisons the adjustment of p counts.
size_t family_size(const std::vector<ComparisonRow>& rows);

/// "LoRA, rank 8, 64 rows"; ranks and rows only where the comparison varies or names them. A method without a rank
/// beside one of several ranks of the baseline: "full, 64 rows (LoRA at rank 4)".
std::string row_title(const ComparisonRow& row, const Comparison& comparison);

/// How the numbers were made and what the intervals mean, for the foot of a report.
std::vector<std::string> method_notes(const std::vector<ComparisonRow>& rows, const Comparison& comparison,
                                      const std::string& metric);

/// Header and cells of the table, as text: first what decides, then what it was made of and what it cost.
std::vector<std::string> table_header(const std::string& metric);
std::vector<std::vector<std::string>> table_cells(const std::vector<ComparisonRow>& rows, const Comparison& comparison);

/// A table without the columns (behind the first) whose cells are the same in all of several rows, and those columns
/// with their value.
struct SplitTable {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
  std::vector<std::pair<std::string, std::string>> equal;
};
SplitTable without_equal_columns(const std::vector<std::string>& header,
                                 const std::vector<std::vector<std::string>>& rows);

/// All of it as JSON; NaN is null.
nlohmann::ordered_json comparison_json(const std::vector<ComparisonRow>& rows, const Comparison& comparison,
                                       const std::string& metric);
/// One line per row, one line per cell.
std::string rows_csv(const std::vector<ComparisonRow>& rows, const Comparison& comparison);
std::string cells_csv(const Comparison& comparison);
/// A table for LaTeX, a tabular with lines above and below, and the caption as a comment.
std::string latex_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows,
                        const std::string& caption);
/// A table in Markdown.
std::string markdown_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);
/// A Markdown page: verdict, table, notes, `more` (sections of its own), learning rates, configuration.
std::string comparison_markdown(const std::vector<ComparisonRow>& rows, const Comparison& comparison,
                                const std::string& title, const std::string& metric, const std::string& more,
                                const std::string& config_yaml);
/// Header and cells of the learning rates that were tried.
std::vector<std::string> rates_header();
std::vector<std::vector<std::string>> rates_cells(const Comparison& comparison);

}  // namespace deeplora
