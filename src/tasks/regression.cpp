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

/// Mean and spread of a target.
using Scale = std::pair<double, double>;

/// One number per row, or a list of several. The loss is taken in units of the training targets' spread, so that
/// learning rates do not depend on the scale of the labels; of several targets it is their mean, as every score is.
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

  int64_t outputs() const override { return static_cast<int64_t>(scales_.size()); }
  Scale output_scale() const override {
    check(scales_.size() == 1, "column ", columns_.label, " holds ", scales_.size(),
          " targets a row, but a new head learns one; use a model that gives as many outputs itself");
    return scales_.front();
  }

  std::string label_summary(std::span<const Example> examples) const override {
    if (examples.empty()) return "";
    double least = examples.front().targets.front(), most = least;
    for (const auto& example : examples)
      for (const double value : example.targets) least = std::min(least, value), most = std::max(most, value);
    return cat(several() ? cat(scales_.size(), " targets a row, ") : "targets ", "from ", shown_number(least), " to ",
               shown_number(most));
  }

  torch::Tensor loss_sum(const ModelOutput& output, const Batch& batch) const override {
    torch::Tensor found = output.logits.to(torch::kFloat64);
    if (!several()) {
      found = (found.squeeze(-1) - scales_.front().first) / scales_.front().second;
      return (found - batch.labels).square().sum().to(torch::kFloat32);
    }
    std::vector<double> means, spreads;
    for (const auto& [mean, spread] : scales_) means.push_back(mean), spreads.push_back(spread);
    const auto wide = found.options();
    found = (found - torch::tensor(means, wide)) / torch::tensor(spreads, wide);
    return (found - batch.labels).square().mean(1).sum().to(torch::kFloat32);
  }

 protected:
  void fit_labels(std::span<const Row> train, std::span<const Row> /*all*/) override {
    RowErrors errors;
    std::vector<std::vector<double>> values;  // by target
    for (const auto& row : train) {
      try {
        const auto targets = targets_of(row);
        if (values.empty()) values.resize(targets.size());
        check_number(row, targets, values.size());
        for (size_t i = 0; i < targets.size(); ++i) values[i].push_back(targets[i]);
      } catch (const Error& e) {
        errors.add_what(row.source, e.what());
      }
    }
    errors.throw_if_any();
    scales_.clear();
    for (size_t i = 0; i < values.size(); ++i)
      scales_.push_back(target_scale(values[i], values.size() > 1 ? cat(i, " ") : ""));
  }

  /// Of one target numbers, of several lists.
  nlohmann::ordered_json label_state() const override {
    if (!several()) return {{"mean", scales_.front().first}, {"spread", scales_.front().second}};
    nlohmann::ordered_json out;
    for (const auto& [mean, spread] : scales_) out["mean"].push_back(mean), out["spread"].push_back(spread);
    return out;
  }
  void restore_labels(const OrderedJsonFile& state) override { scales_ = read_target_scales(state); }
  std::string problem_type() const override { return "regression"; }

  void read_label(const Row& row, Example& example) const override {
    example.targets = targets_of(row);
    check_number(row, example.targets, scales_.size());
  }

  /// [B] float32, of several targets [B, C], in units of the spread: float32 would not hold targets that lie close
  /// together far from zero.
  torch::Tensor label_tensor(std::span<const Example* const> examples) const override {
    std::vector<double> values;
    for (const Example* example : examples)
      for (size_t i = 0; i < scales_.size(); ++i)
        values.push_back((example->targets[i] - scales_[i].first) / scales_[i].second);
    const torch::Tensor all = torch::tensor(values, torch::kFloat64).to(torch::kFloat32);
    return several() ? all.view({-1, outputs()}) : all;
  }

  Scores scores(const torch::Tensor& logits, std::span<const Example> examples) const override {
    std::map<std::string, double> all;
    for (size_t i = 0; i < scales_.size(); ++i) {
      const torch::Tensor column = logits.select(1, static_cast<int64_t>(i)).contiguous();
      const std::span<const double> predicted(column.const_data_ptr<double>(), examples.size());
      std::vector<double> expected;
      for (const auto& example : examples) expected.push_back(example.targets[i]);
      const auto share = [&](double score) { return several() ? score / static_cast<double>(scales_.size()) : score; };
      all["pearson"] += share(pearson(predicted, expected));
      all["spearman"] += share(spearman(predicted, expected));
      all["mse"] += share(mean_squared_error(predicted, expected));
      all["rmse"] += share(root_mean_squared_error(predicted, expected));
      all["mae"] += share(mean_absolute_error(predicted, expected));
    }
    std::vector<std::pair<std::string, double>> named;
    for (const char* name : {"pearson", "spearman", "mse", "rmse", "mae"}) named.emplace_back(name, all.at(name));
    return Scores::led_by(headline_, std::move(named), headline_ == "pearson" || headline_ == "spearman");
  }

  void describe(const torch::Tensor& logits, std::span<const Example> examples, Assessment& out) const override {
    const double* predicted = logits.const_data_ptr<double>();
    const size_t width = scales_.size();
    for (size_t i = 0; i < examples.size(); ++i) {
      const std::vector<double> values(predicted + i * width, predicted + (i + 1) * width);
      double squares = 0;
      for (size_t k = 0; k < width; ++k) squares += std::pow(values[k] - examples[i].targets[k], 2);
      out.rows[i].label = in_json(examples[i].targets);
      out.rows[i].prediction = in_json(values);
      out.rows[i].loss = squares / static_cast<double>(width);
    }
  }

  nlohmann::ordered_json prediction(const torch::Tensor& logits) const override {
    const torch::Tensor whole = logits.contiguous();
    const std::vector<double> values(whole.const_data_ptr<double>(), whole.const_data_ptr<double>() + whole.numel());
    return {{"prediction", in_json(values)}, {"logits", values}};
  }

 private:
  bool several() const { return scales_.size() > 1; }

  /// A number; of several targets a list.
  nlohmann::ordered_json in_json(const std::vector<double>& values) const {
    return several() ? nlohmann::ordered_json(values) : nlohmann::ordered_json(values.front());
  }

  Scale target_scale(const std::vector<double>& values, const std::string& which) const {
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    check(*least < *most, "all ", values.size(), " training rows have the same target ", which.empty() ? "" : "number ",
          which, which.empty() ? "" : "of ", shown_number(*least), " in column ", columns_.label,
          "; a regression needs different ones");
    const Scale out = mean_and_spread(values);
    check(std::isfinite(out.first) && std::isfinite(out.second), "the training rows' targets in column ",
          columns_.label, " lie too far apart: ", shown_number(*least), " to ", shown_number(*most));
    return out;
  }

  void check_number(const Row& row, const std::vector<double>& targets, size_t expected) const {
    check(targets.size() == expected, row.source, ": ", columns_.label, ": expected ", expected,
          expected == 1 ? " target" : " targets", " as in the training rows, found ", targets.size());
  }

  /// A cell's number, or the numbers of its list.
  std::vector<double> targets_of(const Row& row) const {
    const auto found = row.fields.find(columns_.label);
    if (found == row.fields.end() || !found->is_array()) return {number(row)};
    std::vector<double> out;
    for (const auto& item : *found) {
      check(item.is_number(), row.source, ": ", columns_.label, ": expected a list of numbers, found ", shown(item),
            " in it");
      out.push_back(item.get<double>());
    }
    check(!out.empty(), row.source, ": ", columns_.label, ": an empty list");
    return out;
  }

  double number(const Row& row) const {
    return number_cell(row, columns_.label, " (for named labels set data.task: classification)");
  }

  std::string headline_;
  std::vector<Scale> scales_{{0.0, 1.0}};  ///< of every target
};

}  // namespace

std::unique_ptr<Task> make_regression(const std::string& name, const Config& data, const TextColumns& defaults,
                                      const std::string& headline) {
  return std::make_unique<Regression>(name, data, defaults, headline);
}

}  // namespace deeplora
