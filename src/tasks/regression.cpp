#include <torch/torch.h>

#include <cmath>
#include <map>
#include <tuple>

#include "tasks/metrics.h"
#include "tasks/task_state.h"
#include "tasks/text_task.h"

namespace deeplora {
namespace {

/// One number per row. The loss is taken in units of the training targets' spread, so that learning rates do not depend on
/// the scale of the labels.
class Regression : public TextTask {
 public:
  Regression(const std::string& name, const Config& data, const TextColumns& defaults, std::string headline)
      : TextTask(name, data, defaults), headline_(std::move(headline)) {}

  void fit(std::span<const Row> train, std::span<const Row> /*all*/) override {
    Errors errors;
    double sum = 0, squares = 0;
    for (const auto& row : train) {
      try {
        const double value = target(row);
        sum += value;
        squares += value * value;
      } catch (const Error& e) {
        errors.add(e.what());
      }
    }
    errors.throw_if_any();
    const auto n = static_cast<double>(train.size());
    mean_ = sum / n;
    spread_ = std::sqrt(std::max(0.0, squares / n - mean_ * mean_));
    check(spread_ > 0, "all ", train.size(), " training rows have the same target ", mean_, " in column ", columns_.label,
          "; a regression needs different ones");
  }

  nlohmann::ordered_json state() const override { return {{"mean", mean_}, {"spread", spread_}}; }
  void restore(const OrderedJsonFile& state) override { std::tie(mean_, spread_) = read_target_scale(state); }
  int64_t outputs() const override { return 1; }
  std::pair<double, double> output_scale() const override { return {mean_, spread_}; }

  torch::Tensor loss_sum(const ModelOutput& output, const Batch& batch) const override {
    const torch::Tensor difference = output.logits.to(torch::kFloat32).squeeze(-1) - batch.labels;
    return (difference / spread_).square().sum();
  }

 protected:
  void read_label(const Row& row, Example& example) const override { example.target = target(row); }

  torch::Tensor label_tensor(std::span<const Example* const> examples) const override {
    std::vector<double> values;
    for (const Example* example : examples) values.push_back(example->target);
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
    return out;
  }

  nlohmann::ordered_json prediction(const torch::Tensor& logits) const override {
    const double value = logits[0].item<double>();
    return {{"prediction", value}, {"logits", {value}}};
  }

 private:
  double target(const Row& row) const {
    const std::string text = cell(row, columns_.label);
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    check(!text.empty() && *end == '\0' && std::isfinite(value), row.source, ": ", columns_.label, ": expected a number, found '", text,
          "' (for named labels set data.task: classification)");
    return value;
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
