// What a comparison reads of its cells' run folders: result.json, diverged.json, updates.json. Throws Error for values
// of another type.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "compare/comparison.h"
#include "compare/evidence.h"

namespace deeplora {

struct CellResult {
  std::string metric;  ///< headline metric
  bool higher_is_better = true;
  CellOutcome outcome;
};

/// `metric` is what the outcome is read by when the file names none.
CellResult read_cell_result(const std::string& file, std::string_view text, const std::string& metric);

/// The smallest step of a score over `rows` test rows: what one row changes in the accuracy (1/n), in Matthews'
/// correlation of two even classes (2/n), or in BLEU and chrF, which go to 100 (100/n). 0 for scores that move without
/// steps: losses, errors, correlations of numbers. Any other name is taken for a count or a mean over the rows, as F1,
/// ROUGE or recall are.
double score_step(const std::string& metric, double rows);

/// Why the cell diverged, without what only its log needs.
std::string read_cell_message(const std::string& file, std::string_view text);

std::vector<LearnedUpdate> read_cell_updates(const std::string& file, std::string_view text, int64_t seed);

}  // namespace deeplora
