#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "tasks/label_names.h"
#include "tasks/metrics.h"
#include "tasks/task_state.h"
#include "tasks/text_task.h"
#include "text/row_errors.h"

namespace deeplora {
namespace {

/// Mean and standard deviation (of the population) by differences from a value among them, so that their distance from
/// zero costs no digits.
std::pair<double, double> mean_and_spread(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  const auto mean_difference = [&](double from) {
    double sum = 0;
    for (const double value : values) sum += (value - from) / n;
    return sum;
  };
  double mean = values.front() + mean_difference(values.front());
  mean += mean_difference(mean);
  double largest = 0, squares = 0;
  for (const double value : values) largest = std::max(largest, std::abs(value - mean));
  for (const double value : values) squares += (value - mean) / largest * ((value - mean) / largest);
  return {mean, largest * std::sqrt(squares / n)};
}

std::string shown_number(double value) { return nlohmann::json(value).dump(); }

/// One number per row. The loss is taken in units of the training targets' spread, so that learning rates do not depend
/// on the scale of the labels.
class Regression : public TextTask {
 public:
  Regression(const std::string& name, const Config& data, const TextColumns& defaults, std::string headline)
      : TextTask(name, data, defaults), headline_(std::move(headline)) {
    data.read_choice("metric", headline_, {"pearson", "spearman", "mse", "rmse", "mae"},
                     "chooses the best checkpoint; comparisons judge by it");
  }

  nlohmann::ordered_json settings() const override {
    auto out = TextTask::settings();
    out["metric"] = headline_;
    return out;
  }

  void fit(std::span<const Row> train, std::span<const Row> /*all*/) override {
    RowErrors errors;
    std::vector<double> values;
    for (const auto& row : train) {
      try {
        values.push_back(target(row));
      } catch (const Error& e) {
        errors.add_what(row.source, e.what());
      }
    }
    errors.throw_if_any();
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    check(*least < *most, "all ", train.size(), " training rows have the same target ", shown_number(*least),
          " in column ", columns_.label, "; a regression needs different ones");
    std::tie(mean_, spread_) = mean_and_spread(values);
    check(std::isfinite(mean_) && std::isfinite(spread_), "the training rows' targets in column ", columns_.label,
          " lie too far apart: ", shown_number(*least), " to ", shown_number(*most));
  }

  nlohmann::ordered_json state() const override { return {{"mean", mean_}, {"spread", spread_}}; }
  void restore(const OrderedJsonFile& state) override { std::tie(mean_, spread_) = read_target_scale(state); }
  int64_t outputs() const override { return 1; }
  std::pair<double, double> output_scale() const override { return {mean_, spread_}; }

  std::string label_summary(std::span<const Example> examples) const override {
    const auto [least, most] = std::minmax_element(examples.begin(), examples.end(),
                                                   [](const auto& a, const auto& b) { return a.target < b.target; });
    return examples.empty() ? ""
                            : cat("targets from ", shown_number(least->target), " to ", shown_number(most->target));
  }

  torch::Tensor loss_sum(const ModelOutput& output, const Batch& batch) const override {
    const torch::Tensor found = (output.logits.to(torch::kFloat64).squeeze(-1) - mean_) / spread_;
    return (found - batch.labels).square().sum().to(torch::kFloat32);
  }

 protected:
  void read_label(const Row& row, Example& example) const override { example.target = target(row); }

  /// [B] float32 in units of the spread: float32 would not hold targets that lie close together far from zero.
  torch::Tensor label_tensor(std::span<const Example* const> examples) const override {
    std::vector<double> values;
    for (const Example* example : examples) values.push_back((example->target - mean_) / spread_);
    return torch::tensor(values, torch::kFloat64).to(torch::kFloat32);
  }

  Scores scores(const torch::Tensor& logits, std::span<const Example> examples) const override {
    const torch::Tensor column = logits.squeeze(-1).contiguous();
    const std::span<const double> predicted(column.const_data_ptr<double>(), examples.size());
    std::vector<double> expected;
    for (const auto& example : examples) expected.push_back(example.target);
    std::map<std::string, double> all{{"pearson", pearson(predicted, expected)},
                                      {"spearman", spearman(predicted, expected)},
                                      {"mse", mean_squared_error(predicted, expected)},
                                      {"rmse", root_mean_squared_error(predicted, expected)},
                                      {"mae", mean_absolute_error(predicted, expected)}};
    Scores out;
    out.values.emplace_back(headline_, all.at(headline_));
    for (const char* name : {"pearson", "spearman", "mse", "rmse", "mae"})
      if (name != headline_) out.values.emplace_back(name, all.at(name));
    out.higher_is_better = headline_ == "pearson" || headline_ == "spearman";
    return out;
  }

  void describe(const torch::Tensor& logits, std::span<const Example> examples, Assessment& out) const override {
    const double* predicted = logits.const_data_ptr<double>();
    for (size_t i = 0; i < examples.size(); ++i) {
      const double difference = predicted[i] - examples[i].target;
      out.rows[i].label = examples[i].target;
      out.rows[i].prediction = predicted[i];
      out.rows[i].loss = difference * difference;
    }
  }

  nlohmann::ordered_json prediction(const torch::Tensor& logits) const override {
    const double value = logits[0].item<double>();
    return {{"prediction", value}, {"logits", {value}}};
  }

 private:
  double target(const Row& row) const {
    return number_cell(row, columns_.label, " (for named labels set data.task: classification)");
  }

  std::string headline_;
  double mean_ = 0, spread_ = 1;
};

}  // namespace

std::unique_ptr<Task> make_regression(const std::string& name, const Config& data, const TextColumns& defaults,
                                      const std::string& headline) {
  return std::make_unique<Regression>(name, data, defaults, headline);
}

}  // namespace deeplora
