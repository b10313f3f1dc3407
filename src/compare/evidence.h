// What the finished runs of a comparison left in their folders: learning curves, and the spectra of the learned
// updates.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "compare/table.h"

namespace deeplora {

/// Scores on dev over the optimizer steps of one run.
struct LearningCurve {
  int64_t seed = 0;
  std::vector<double> steps = {}, values = {};  ///< same length; NaN where undefined
};

/// The update [out, in] that one run learned for one weight.
struct LearnedUpdate {
  int64_t seed = 0;
  std::string path = {}, role = {};
  int64_t layer = -1;  ///< first number in the path, -1 when there is none
  int64_t out = 0, in = 0, numerical_rank = 0;
  double update_norm = 0, weight_norm = 0;
  std::vector<double> singular_values = {};  ///< falling
};

/// Of one row of the table, at its chosen learning rate.
struct RowEvidence {
  std::vector<LearningCurve> curves;
  std::vector<LearnedUpdate> updates;
};

/// Parallel to `rows`. `folder_of` gives a cell's run folder. Files that are missing leave their part empty.
std::vector<RowEvidence> read_evidence(const std::vector<ComparisonRow>& rows, const Comparison& comparison,
                                       const std::function<std::filesystem::path(size_t)>& folder_of);

/// One line per row, seed and weight.
std::string updates_csv(const std::vector<RowEvidence>& evidence, const std::vector<ComparisonRow>& rows,
                        const Comparison& comparison);

/// Scores on dev over the steps: one line per row, seed and evaluation.
std::string learning_curves_csv(const std::vector<RowEvidence>& evidence, const std::vector<ComparisonRow>& rows,
                                const Comparison& comparison);

/// Numerical ranks (singular values above 1 % of the largest) of a row's learned updates, over weights and seeds, and
/// the updates' mean Frobenius norm relative to the weights'.
struct UpdateSummary {
  Summary rank;
  double lowest = 0, highest = 0, relative_norm = 0;
};
std::optional<UpdateSummary> summarize_updates(const RowEvidence& evidence);

/// Header and cells of a table of them, without the rows that adapt no weight.
std::vector<std::string> updates_header();
std::vector<std::vector<std::string>> updates_cells(const std::vector<RowEvidence>& evidence,
                                                    const std::vector<ComparisonRow>& rows,
                                                    const Comparison& comparison);

/// "encoder.layer.3.attention.self.query.weight" as 3.
int64_t layer_of(const std::string& path);

}  // namespace deeplora
