// Scores of rows with any number of labels each, equal to scikit-learn's. Free of LibTorch.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tasks/label_report.h"

namespace deeplora {

/// N rows by C labels: 1 where a row has a label, else 0.
using LabelTable = std::vector<std::vector<char>>;

/// What one label's column holds; scores are 0 where they are undefined, as scikit-learn gives them by default.
struct LabelCounts {
  int64_t both = 0, predicted = 0, expected = 0;

  double f1() const { return predicted + expected > 0 ? 2.0 * both / static_cast<double>(predicted + expected) : 0.0; }
};

/// Of all labels together, of each of them, and whole rows. Cells may be changed one by one, so that a threshold is
/// found in one walk. C from 1; NaN for subset_accuracy without rows.
class LabelTally {
 public:
  /// Throws std::invalid_argument when the tables differ in shape.
  LabelTally(const LabelTable& predicted, const LabelTable& expected);
  /// The prediction of a cell becomes the other one.
  void turn(size_t row, size_t label);

  double micro_f1() const { return all_.f1(); }
  double macro_f1() const;
  double subset_accuracy() const;
  /// micro_f1, macro_f1 or subset_accuracy; throws std::invalid_argument for another name.
  double score(const std::string& metric) const;
  /// [C]; precision, recall and f1 are NaN where they are undefined, as label_scores() has it.
  std::vector<LabelScores> per_label() const;

 private:
  const LabelTable& expected_;
  LabelTable predicted_;
  LabelCounts all_;
  std::vector<LabelCounts> labels_;
  std::vector<int64_t> wrong_;  ///< cells of each row
  int64_t right_rows_ = 0;
};

/// Mean over the rows with the label of the precision at their rank, as average_precision_score has it: rows of equal
/// scores come in together. 0 without such rows. N scores.
double average_precision(std::span<const double> scores, const std::vector<bool>& relevant);

/// The mean of average_precision() over the labels; scores [N][C].
double mean_average_precision(const std::vector<std::vector<double>>& scores, const LabelTable& expected);

/// The threshold t at which "label where p >= t" scores best by `metric` (one of LabelTally::score), for probabilities
/// [N][C]: of the midpoints between neighbouring probabilities, and 0.5 itself, the one nearest to 0.5 among the best.
double best_label_threshold(const std::vector<std::vector<double>>& probabilities, const LabelTable& expected,
                            const std::string& metric);

}  // namespace deeplora
