// What a classification got right and wrong, label by label, equal to scikit-learn's. Free of LibTorch.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

namespace deeplora {

/// Scores of one label; NaN where they are undefined: precision of a label that is never predicted, recall of one that
/// is never expected, f1 of one that is neither.
struct LabelScores {
  double precision = 0, recall = 0, f1 = 0;
  int64_t support = 0;  ///< how often it is expected
};

/// Rows: the true label, columns: the predicted one; [C][C]. N predictions and N expected labels of 0 to C - 1; throws
/// std::invalid_argument when the lengths differ or a label is out of range.
using Confusion = std::vector<std::vector<int64_t>>;
Confusion confusion_matrix(std::span<const int64_t> predicted, std::span<const int64_t> expected, size_t classes);

/// As precision_recall_fscore_support with zero_division=nan; [C].
std::vector<LabelScores> label_scores(const Confusion& confusion);

/// Rows by the probability of what was predicted, in bins of equal width (from, to]: the first holds its lower end too,
/// as calibration_curve has it.
struct Calibration {
  struct Bin {
    double from = 0, to = 0;
    int64_t rows = 0;
    double confidence = 0, accuracy = 0;  ///< means over the rows; 0 without rows
  };
  double error = 0;  ///< expected calibration error (Guo et al. 2017): mean over the rows of |accuracy - confidence| of
                     ///< their bin; NaN without rows
  std::vector<Bin> bins;
};
Calibration calibration(std::span<const double> confidence, const std::vector<bool>& correct, size_t bins = 10);

/// {"per_label": {name: {precision, recall, f1, support}}, "confusion": {"labels", "counts"}, "calibration": {"error",
/// "bins"}}; undefined numbers are null. Of more than kMostConfusion labels the matrix is left out, and
/// `confusion.frequent` lists the most frequent mistakes.
constexpr size_t kMostConfusion = 100;
nlohmann::ordered_json label_report(const std::vector<std::string>& names, std::span<const int64_t> predicted,
                                    std::span<const int64_t> expected, std::span<const double> confidence);

/// {name: {precision, recall, f1, support}}; undefined numbers are null.
nlohmann::ordered_json per_label_json(const std::vector<std::string>& names, std::span<const LabelScores> scores);

/// The most frequent mistakes: {true label, predicted label, rows}, most first, of equals in the order of the labels.
struct Mistaken {
  size_t expected = 0, predicted = 0;
  int64_t rows = 0;
};
std::vector<Mistaken> frequent_mistakes(const Confusion& confusion, size_t most);

}  // namespace deeplora
