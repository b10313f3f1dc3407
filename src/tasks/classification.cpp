#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/log.h"
#include "tasks/label_names.h"
#include "tasks/label_report.h"
#include "tasks/metrics.h"
#include "tasks/task_state.h"
#include "tasks/text_task.h"
#include "core/number_text.h"
#include "text/row_errors.h"

namespace deeplora {
namespace {

/// Labels may be any text or number; the list is learnt from the training rows and kept with the run.
class Classification : public TextTask {
 public:
  Classification(const std::string& name, const Config& data, const TextColumns& defaults, std::string headline)
      : TextTask(name, data, defaults), headline_(std::move(headline)) {
    data.read("positive", positive_,
              "label that f1 is about; empty: the last of two labels, the mean over labels for more");
    data.read_choice("metric", headline_, {"accuracy", "f1", "matthews", "loss"},
                     "chooses the best checkpoint; comparisons judge by it");
    read_label_weights(data, weighting_, given_weights_);
    find_threshold_ = read_threshold(data, threshold_);
    given_threshold_ = data.has("threshold") && !find_threshold_;
  }

  /// What scores and predictions depend on; weights of classes are for training alone.
  nlohmann::ordered_json settings() const override {
    auto out = TextTask::settings();
    out.update({{"positive", positive_}, {"metric", headline_}});
    return out;
  }

  void fit_labels(std::span<const Row> train, std::span<const Row> all) override {
    std::set<std::string> found;
    RowErrors errors;
    for (const auto& row : all) {
      try {
        const std::string label(without_blanks(cell(row, columns_.label)));
        check(!label.empty(), row.source, ": ", columns_.label, ": an empty label");
        found.insert(label);
      } catch (const Error& e) {
        errors.add_what(row.source, e.what());
      }
    }
    errors.throw_if_any();
    try {
      labels_ = classes_.empty() ? LabelNames::of(found) : LabelNames::of_model(classes_, found);
    } catch (const Error& e) {
      fail("column ", columns_.label, ": ", e.what());
    }
    if (labels_.are_the_models()) {
      log_info("column ", columns_.label,
               ": labels are the classes of the model's own head, in its order: ", join(labels_.names(), ", ", 8));
      check_labels();
      return weigh(train);
    }
    for (const auto& [spelling, name] : labels_.respelt())
      log_info("column ", columns_.label, ": all labels are numbers, so '", spelling, "' is label '", name, "'");
    const auto& names = labels_.names();
    check(names.size() >= 2, "the training rows hold only one label, '", names.front(), "' (column ", columns_.label,
          "); a classification needs at least two");
    check(names.size() <= 1000, "the training rows hold ", names.size(), " different labels in column ", columns_.label,
          " (", join(names, ", ", 4), "); is this a regression? Set data.task: regression");
    check_labels();
    weigh(train);
  }

  void use_classes(const std::vector<std::string>& names) override { classes_ = names; }
  nlohmann::ordered_json label_state() const override {
    nlohmann::ordered_json out{{"labels", labels_.names()}};
    if (labels_.are_the_models()) out["of_the_model"] = true;
    if (threshold_ != kEven)
      out.update({{"threshold", threshold_}, {"positive", labels_.names().at(static_cast<size_t>(positive_class()))}});
    return out;
  }
  void restore_labels(const OrderedJsonFile& state) override {
    labels_ = state.value("of_the_model", false) ? LabelNames::of_model(read_labels(state))
                                                 : LabelNames::in_order(read_labels(state));
    if (!given_threshold_) threshold_ = read_threshold(state);
    check_labels();
  }
  int64_t outputs() const override { return static_cast<int64_t>(labels_.size()); }
  std::string problem_type() const override { return "single_label_classification"; }
  bool classifies() const override { return true; }
  std::string stratum(const Row& row) const override {
    const std::string label(without_blanks(cell(row, columns_.label)));
    return number_form(label).value_or(label);
  }

  std::vector<std::pair<std::string, size_t>> label_counts(std::span<const Example> examples) const override {
    std::vector<std::pair<std::string, size_t>> out;
    for (const auto& name : labels_.names()) out.emplace_back(name, 0);
    for (const auto& example : examples) ++out[static_cast<size_t>(example.label)].second;
    return out;
  }

  std::string label_summary(std::span<const Example> examples) const override {
    std::vector<std::string> shown;
    for (const auto& [name, count] : label_counts(examples)) shown.push_back(cat(name, " ", with_commas(count)));
    return cat("labels ", join(shown, ", ", 8));
  }

  torch::Tensor loss_sum(const ModelOutput& output, const Batch& batch) const override {
    return torch::nn::functional::cross_entropy(
        output.logits.to(torch::kFloat32), batch.labels,
        torch::nn::functional::CrossEntropyFuncOptions()
            .reduction(torch::kSum)
            .weight(weights_.defined() ? weights_.to(output.logits.device()) : weights_));
  }
  double loss_count(const Batch& batch) const override {
    return weights_.defined()
               ? weights_.index_select(0, batch.labels.to(torch::kCPU)).sum(torch::kFloat64).item<double>()
               : TextTask::loss_count(batch);
  }

  std::optional<Scores> choose_on_dev(LanguageModel& model, std::span<const Example> dev,
                                      const EvaluationOptions& options) override {
    if (!find_threshold_ || dev.empty()) return std::nullopt;
    const torch::Tensor logits = all_logits(*this, model, dev, options);
    const torch::Tensor probabilities = logits.softmax(1).select(1, positive_class()).contiguous();
    std::vector<bool> positive;
    for (const auto& example : dev) positive.push_back(example.label == positive_class());
    threshold_ = best_threshold({probabilities.const_data_ptr<double>(), dev.size()}, positive,
                                headline_ == "loss" ? "f1" : headline_);
    return scores(logits, dev);
  }

 protected:
  void read_label(const Row& row, Example& example) const override {
    const std::string label = cell(row, columns_.label);
    const auto found = labels_.find(label);
    check(found.has_value(), row.source, ": ", columns_.label, ": label '", label,
          labels_.are_the_models() ? "' is no class of the model's own head; known: "
                                   : "' does not occur in the training rows; known: ",
          join(labels_.names()));
    example.label = *found;
  }

  torch::Tensor label_tensor(std::span<const Example* const> examples) const override {
    std::vector<int64_t> values;
    for (const Example* example : examples) values.push_back(example->label);
    return torch::tensor(values, torch::kInt64);
  }

  Scores scores(const torch::Tensor& logits, std::span<const Example> examples) const override {
    std::vector<int64_t> expected;
    for (const auto& example : examples) expected.push_back(example.label);
    const torch::Tensor best = decide(logits);
    const std::span<const int64_t> predicted(best.const_data_ptr<int64_t>(), expected.size());
    const auto labels = torch::tensor(expected, torch::kInt64);
    return Scores::led_by(headline_,
                          {{"accuracy", accuracy(predicted, expected)},
                           {"f1", f1(predicted, expected)},
                           {"matthews", matthews(predicted, expected)},
                           {"loss", torch::nn::functional::cross_entropy(logits, labels).item<double>()}},
                          headline_ != "loss");
  }

  void describe(const torch::Tensor& logits, std::span<const Example> examples, Assessment& out) const override {
    out.classes = labels_.names();
    const torch::Tensor log_probabilities = logits.log_softmax(1).contiguous(),
                        probabilities = logits.softmax(1).contiguous();
    const torch::Tensor best = decide(logits);
    const auto width = labels_.size();
    const double *p = probabilities.const_data_ptr<double>(), *log_p = log_probabilities.const_data_ptr<double>();
    const std::span<const int64_t> predicted(best.const_data_ptr<int64_t>(), examples.size());
    std::vector<int64_t> expected;
    std::vector<double> confidence;
    for (size_t i = 0; i < examples.size(); ++i) {
      RowResult& row = out.rows[i];
      expected.push_back(examples[i].label);
      row.label = labels_.names()[static_cast<size_t>(expected[i])];
      row.prediction = labels_.names()[static_cast<size_t>(predicted[i])];
      row.probabilities.assign(p + i * width, p + (i + 1) * width);
      row.loss = -log_p[i * width + static_cast<size_t>(expected[i])];
      confidence.push_back(row.probabilities[static_cast<size_t>(predicted[i])]);
    }
    out.details = label_report(labels_.names(), predicted, expected, confidence);
  }

  nlohmann::ordered_json prediction(const torch::Tensor& logits) const override {
    const torch::Tensor probabilities = logits.softmax(0);
    const auto list = [](const torch::Tensor& t) {
      return std::vector<double>(t.const_data_ptr<double>(), t.const_data_ptr<double>() + t.numel());
    };
    nlohmann::ordered_json by_label = nlohmann::ordered_json::object();
    for (size_t i = 0; i < labels_.size(); ++i)
      by_label[labels_.names()[i]] = probabilities[static_cast<int64_t>(i)].item<double>();
    return {{"prediction", labels_.names().at(static_cast<size_t>(decide(logits.unsqueeze(0)).item<int64_t>()))},
            {"logits", list(logits.contiguous())},
            {"probabilities", list(probabilities.contiguous())},
            {"by_label", std::move(by_label)}};
  }

 private:
  double f1(std::span<const int64_t> predicted, std::span<const int64_t> expected) const {
    if (!positive_.empty()) return f1_of_class(predicted, expected, *labels_.find(positive_));
    return labels_.size() == 2 ? f1_of_class(predicted, expected, 1) : f1_macro(predicted, expected);
  }

  /// Keys that name labels or are about two of them.
  void check_labels() const {
    const auto known = [&](const std::string& key, const std::string& label) {
      check(labels_.find(label).has_value(), "data.", key, ": '", label,
            "' is no label; known: ", join(labels_.names()));
    };
    if (!positive_.empty()) known("positive", positive_);
    for (const auto& [label, unused] : given_weights_) known("class_weights", label);
    check(labels_.size() == 2 || (!find_threshold_ && threshold_ == kEven),
          "data.threshold: a threshold decides between two labels; there are ", labels_.size());
  }

  /// Weights of the classes from the rows that are trained on; balanced as scikit-learn has it: rows / (labels among
  /// them x rows of the label).
  void weigh(std::span<const Row> train) {
    if (weighting_ == "none" && given_weights_.empty()) return;
    std::vector<double> weights(labels_.size(), 1.0), counts(labels_.size());
    for (const auto& [label, weight] : given_weights_) weights[static_cast<size_t>(*labels_.find(label))] = weight;
    for (const auto& row : train) ++counts[static_cast<size_t>(labels_.find(cell(row, columns_.label)).value())];
    const auto present =
        static_cast<double>(std::count_if(counts.begin(), counts.end(), [](double count) { return count > 0; }));
    for (size_t i = 0; weighting_ == "balanced" && i < weights.size(); ++i)
      if (counts[i] > 0) weights[i] = static_cast<double>(train.size()) / (present * counts[i]);
    weights_ = torch::tensor(weights, torch::kFloat32);
  }

  int64_t positive_class() const { return positive_.empty() ? 1 : *labels_.find(positive_); }

  /// Classes [N] for logits [N, C]: the likeliest, or of two the positive one from the threshold on.
  torch::Tensor decide(const torch::Tensor& logits) const {
    if (threshold_ == kEven) return logits.argmax(1).contiguous();
    const torch::Tensor positive = logits.softmax(1).select(1, positive_class()) >= threshold_;
    return torch::where(positive, positive_class(), 1 - positive_class()).to(torch::kInt64).contiguous();
  }

  static constexpr double kEven = 0.5;
  std::vector<std::string> classes_;  ///< of the model's own head; empty where that is new
  std::string headline_, positive_, weighting_ = "none";
  std::map<std::string, double> given_weights_;
  double threshold_ = kEven;
  bool find_threshold_ = false, given_threshold_ = false;  ///< auto; a number, which goes before what a run keeps
  torch::Tensor weights_;                                  ///< [C], undefined where all are 1
  LabelNames labels_;
};

}  // namespace

std::unique_ptr<Task> make_classification(const std::string& name, const Config& data, const TextColumns& defaults,
                                          const std::string& headline) {
  return std::make_unique<Classification>(name, data, defaults, headline);
}

}  // namespace deeplora
