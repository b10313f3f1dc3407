#include "tasks/label_report.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "core/error.h"

namespace deeplora {
namespace {

double quotient(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : std::numeric_limits<double>::quiet_NaN();
}

nlohmann::ordered_json known(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json();
}

nlohmann::ordered_json confusion_json(const std::vector<std::string>& names, const Confusion& counts) {
  nlohmann::ordered_json out;
  if (names.size() <= kMostConfusion) {
    out["labels"] = names;
    out["counts"] = counts;
    return out;
  }
  out["frequent"] = nlohmann::ordered_json::array();
  for (const Mistaken& one : frequent_mistakes(counts, 50))
    out["frequent"].push_back(
        {{"label", names[one.expected]}, {"prediction", names[one.predicted]}, {"rows", one.rows}});
  return out;
}

nlohmann::ordered_json calibration_json(const Calibration& found) {
  nlohmann::ordered_json out{{"error", known(found.error)}, {"bins", nlohmann::ordered_json::array()}};
  for (const auto& bin : found.bins) {
    nlohmann::ordered_json one{{"from", bin.from}, {"to", bin.to}, {"rows", bin.rows}};
    one["confidence"] = bin.rows > 0 ? known(bin.confidence) : nullptr;
    one["accuracy"] = bin.rows > 0 ? known(bin.accuracy) : nullptr;
    out["bins"].push_back(std::move(one));
  }
  return out;
}

}  // namespace

Confusion confusion_matrix(std::span<const int64_t> predicted, std::span<const int64_t> expected, size_t classes) {
  if (predicted.size() != expected.size())
    throw std::invalid_argument(
        cat("a confusion matrix got ", predicted.size(), " predictions for ", expected.size(), " labels"));
  Confusion out(classes, std::vector<int64_t>(classes));
  for (size_t i = 0; i < predicted.size(); ++i) {
    const auto row = static_cast<size_t>(expected[i]), column = static_cast<size_t>(predicted[i]);
    if (row >= classes || column >= classes)
      throw std::invalid_argument(cat("a confusion matrix of ", classes, " labels got another one"));
    ++out[row][column];
  }
  return out;
}

std::vector<LabelScores> label_scores(const Confusion& confusion) {
  std::vector<LabelScores> out(confusion.size());
  for (size_t c = 0; c < confusion.size(); ++c) {
    int64_t predicted = 0;
    for (const auto& row : confusion) predicted += row[c];
    for (const int64_t count : confusion[c]) out[c].support += count;
    const int64_t both = confusion[c][c];
    out[c].precision = quotient(both, predicted);
    out[c].recall = quotient(both, out[c].support);
    out[c].f1 = quotient(2 * both, predicted + out[c].support);
  }
  return out;
}

Calibration calibration(std::span<const double> confidence, const std::vector<bool>& correct, size_t bins) {
  if (confidence.size() != correct.size())
    throw std::invalid_argument(
        cat("a calibration got ", confidence.size(), " probabilities for ", correct.size(), " rows"));
  Calibration out;
  const double step = 1 / static_cast<double>(bins);
  for (size_t b = 0; b < bins; ++b)
    out.bins.push_back({.from = static_cast<double>(b) * step, .to = static_cast<double>(b + 1) * step});
  for (size_t i = 0; i < confidence.size(); ++i) {
    size_t b = 0;
    while (b + 1 < bins && confidence[i] > out.bins[b].to) ++b;
    ++out.bins[b].rows;
    out.bins[b].confidence += confidence[i];
    out.bins[b].accuracy += correct[i] ? 1 : 0;
  }
  double sum = 0;
  for (auto& bin : out.bins) {
    if (bin.rows == 0) continue;
    sum += std::abs(bin.accuracy - bin.confidence);
    bin.confidence /= static_cast<double>(bin.rows);
    bin.accuracy /= static_cast<double>(bin.rows);
  }
  out.error =
      confidence.empty() ? std::numeric_limits<double>::quiet_NaN() : sum / static_cast<double>(confidence.size());
  return out;
}

nlohmann::ordered_json per_label_json(const std::vector<std::string>& names, std::span<const LabelScores> scores) {
  auto out = nlohmann::ordered_json::object();
  for (size_t c = 0; c < names.size(); ++c)
    out[names[c]] = {{"precision", known(scores[c].precision)},
                     {"recall", known(scores[c].recall)},
                     {"f1", known(scores[c].f1)},
                     {"support", scores[c].support}};
  return out;
}

nlohmann::ordered_json label_report(const std::vector<std::string>& names, std::span<const int64_t> predicted,
                                    std::span<const int64_t> expected, std::span<const double> confidence) {
  const Confusion counts = confusion_matrix(predicted, expected, names.size());
  nlohmann::ordered_json out;
  out["per_label"] = per_label_json(names, label_scores(counts));
  out["confusion"] = confusion_json(names, counts);
  std::vector<bool> correct;
  for (size_t i = 0; i < predicted.size(); ++i) correct.push_back(predicted[i] == expected[i]);
  out["calibration"] = calibration_json(calibration(confidence, correct));
  return out;
}

std::vector<Mistaken> frequent_mistakes(const Confusion& confusion, size_t most) {
  std::vector<Mistaken> out;
  for (size_t row = 0; row < confusion.size(); ++row)
    for (size_t column = 0; column < confusion.size(); ++column)
      if (row != column && confusion[row][column] > 0) out.push_back({row, column, confusion[row][column]});
  std::stable_sort(out.begin(), out.end(), [](const Mistaken& a, const Mistaken& b) { return a.rows > b.rows; });
  if (out.size() > most) out.resize(most);
  return out;
}

}  // namespace deeplora
