#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/json_text.h"
#include "core/log.h"
#include "tasks/label_names.h"
#include "tasks/label_report.h"
#include "tasks/multi_label_metrics.h"
#include "tasks/task_state.h"
#include "tasks/text_task.h"
#include "core/number_text.h"
#include "text/row_errors.h"

namespace deeplora {
namespace {

/// Any number of labels per row, each a decision of its own: binary cross-entropy over rows and labels.
class MultiLabel : public TextTask {
 public:
  explicit MultiLabel(const Config& data) : TextTask("multi-label", data, {}) {
    data.read("label_separator", separator_, "between the labels of a row whose label column is a text");
    data.require(!without_blanks(separator_).empty() || separator_ == " ", "label_separator", "a text such as , or |");
    data.read_choice("metric", headline_, {"micro_f1", "macro_f1", "subset_accuracy", "map", "loss"},
                     "chooses the best checkpoint; comparisons judge by it");
    read_label_weights(data, weighting_, given_weights_);
    find_threshold_ = read_threshold(data, threshold_);
    given_threshold_ = data.has("threshold") && !find_threshold_;
  }

  nlohmann::ordered_json settings() const override {
    auto out = TextTask::settings();
    out.update({{"label_separator", separator_}, {"metric", headline_}});
    return out;
  }

  /// One file has lists or texts: a text that holds a separator may be the name of one label in a file of lists.
  std::vector<Row> documents(std::vector<Row> rows) const override {
    const Row* first = nullptr;
    for (const auto& row : rows) {
      const auto label = row.fields.find(columns_.label);
      if (label == row.fields.end()) continue;
      if (!first) first = &row;
      const bool is = label->is_array(), was = first->fields[columns_.label].is_array();
      check(is == was, row.source, ": ", columns_.label, ": ", is ? "a list" : "a text", " (",
            shortened(label->dump(), 60), "), but ", first->source, " has ", was ? "a list" : "a text",
            "; write the labels of all rows of a file in one way");
    }
    return rows;
  }

  void fit_labels(std::span<const Row> train, std::span<const Row> all) override {
    std::set<std::string> found;
    RowErrors errors;
    for (const auto& row : all) {
      try {
        for (const auto& label : labels_of(row)) found.insert(label);
      } catch (const Error& e) {
        errors.add_what(row.source, e.what());
      }
    }
    errors.throw_if_any();
    check(!found.empty(), "no training row has a label (column ", columns_.label, ")");
    try {
      labels_ = classes_.empty() ? LabelNames::of(found) : LabelNames::of_model(classes_, found);
    } catch (const Error& e) {
      fail("column ", columns_.label, ": ", e.what());
    }
    const auto& names = labels_.names();
    if (labels_.are_the_models())
      log_info("column ", columns_.label,
               ": labels are the classes of the model's own head, in its order: ", join(names, ", ", 8));
    for (const auto& [spelling, name] : labels_.respelt())
      log_info("column ", columns_.label, ": all labels are numbers, so '", spelling, "' is label '", name, "'");
    check(names.size() >= 2, "the training rows hold only one label, '", names.front(), "' (column ", columns_.label,
          "; labels of one row are cut at data.label_separator: '", separator_,
          "'); for rows that have one label or none use data.task: classification");
    check_labels();
    weigh(train);
  }

  void use_classes(const std::vector<std::string>& names) override { classes_ = names; }
  nlohmann::ordered_json label_state() const override {
    nlohmann::ordered_json out{{"labels", labels_.names()}};
    if (labels_.are_the_models()) out["of_the_model"] = true;
    if (threshold_ != kEven) out["threshold"] = threshold_;
    return out;
  }
  void restore_labels(const OrderedJsonFile& state) override {
    labels_ = state.value("of_the_model", false) ? LabelNames::of_model(read_labels(state))
                                                 : LabelNames::in_order(read_labels(state));
    if (!given_threshold_) threshold_ = read_threshold(state);
    check_labels();
  }
  int64_t outputs() const override { return static_cast<int64_t>(labels_.size()); }
  std::string loss_unit() const override { return "row and label"; }
  std::string problem_type() const override { return "multi_label_classification"; }

  std::vector<std::pair<std::string, size_t>> label_counts(std::span<const Example> examples) const override {
    std::vector<std::pair<std::string, size_t>> out;
    for (const auto& name : labels_.names()) out.emplace_back(name, 0);
    for (const auto& example : examples)
      for (const int64_t label : example.labels) ++out[static_cast<size_t>(label)].second;
    return out;
  }

  std::string label_summary(std::span<const Example> examples) const override {
    std::vector<std::string> shown;
    for (const auto& [name, count] : label_counts(examples)) shown.push_back(cat(name, " ", with_commas(count)));
    const auto none =
        std::count_if(examples.begin(), examples.end(), [](const Example& e) { return e.labels.empty(); });
    return cat("labels ", join(shown, ", ", 8),
               none > 0 ? cat("; ", with_commas(static_cast<size_t>(none)), " rows without any") : std::string());
  }

  torch::Tensor loss_sum(const ModelOutput& output, const Batch& batch) const override {
    const torch::Tensor losses =
        torch::binary_cross_entropy_with_logits(output.logits.to(torch::kFloat32), batch.labels, /*weight=*/{},
                                                /*pos_weight=*/{}, at::Reduction::None);
    return with_.defined() ? (losses * cell_weights(batch.labels)).sum() : losses.sum();
  }
  double loss_count(const Batch& batch) const override {
    return with_.defined() ? cell_weights(batch.labels.to(torch::kCPU)).sum(torch::kFloat64).item<double>()
                           : static_cast<double>(batch.labels.numel());
  }

  std::optional<Scores> choose_on_dev(LanguageModel& model, std::span<const Example> dev,
                                      const EvaluationOptions& options) override {
    if (!find_threshold_ || dev.empty()) return std::nullopt;
    const torch::Tensor logits = all_logits(*this, model, dev, options);
    const bool by_labels = headline_ != "loss" && headline_ != "map";  // no threshold changes those two
    threshold_ = best_label_threshold(rows_of(logits.sigmoid()), expected_of(dev), by_labels ? headline_ : "micro_f1");
    return scores(logits, dev);
  }

 protected:
  void read_label(const Row& row, Example& example) const override {
    std::set<int64_t> classes;
    for (const auto& label : labels_of(row)) {
      const auto found = labels_.find(label);
      check(found.has_value(), row.source, ": ", columns_.label, ": label '", label,
            labels_.are_the_models() ? "' is no class of the model's own head; known: "
                                     : "' does not occur in the training rows; known: ",
            join(labels_.names()));
      classes.insert(*found);
    }
    example.labels.assign(classes.begin(), classes.end());
  }

  /// [B, C] float32: 1 where a row has a label.
  torch::Tensor label_tensor(std::span<const Example* const> examples) const override {
    torch::Tensor out = torch::zeros({static_cast<int64_t>(examples.size()), outputs()});
    auto cells = out.accessor<float, 2>();
    for (size_t i = 0; i < examples.size(); ++i)
      for (const int64_t label : examples[i]->labels) cells[static_cast<int64_t>(i)][label] = 1;
    return out;
  }

  Scores scores(const torch::Tensor& logits, std::span<const Example> examples) const override {
    const LabelTable expected = expected_of(examples);
    const LabelTally tally(decide(logits), expected);
    return Scores::led_by(headline_,
                          {{"micro_f1", tally.micro_f1()},
                           {"macro_f1", tally.macro_f1()},
                           {"subset_accuracy", tally.subset_accuracy()},
                           {"map", mean_average_precision(rows_of(logits), expected)},
                           {"loss", losses_of(logits, examples).mean().item<double>()}},
                          headline_ != "loss");
  }

  void describe(const torch::Tensor& logits, std::span<const Example> examples, Assessment& out) const override {
    out.classes = labels_.names();
    const auto probabilities = rows_of(logits.sigmoid());
    const LabelTable predicted = decide(logits), expected = expected_of(examples);
    const torch::Tensor losses = losses_of(logits, examples).mean(1);
    for (size_t i = 0; i < examples.size(); ++i) {
      out.rows[i].label = named(expected[i]);
      out.rows[i].prediction = named(predicted[i]);
      out.rows[i].probabilities = probabilities[i];
      out.rows[i].loss = losses[static_cast<int64_t>(i)].item<double>();
    }
    out.details["per_label"] = per_label_json(labels_.names(), LabelTally(predicted, expected).per_label());
  }

  nlohmann::ordered_json prediction(const torch::Tensor& logits) const override {
    const auto probabilities = rows_of(logits.sigmoid().unsqueeze(0)).front(),
               raw = rows_of(logits.unsqueeze(0)).front();
    nlohmann::ordered_json by_label = nlohmann::ordered_json::object();
    for (size_t i = 0; i < labels_.size(); ++i) by_label[labels_.names()[i]] = probabilities[i];
    return {{"prediction", named(decide(logits.unsqueeze(0)).front())},
            {"logits", raw},
            {"probabilities", std::move(by_label)}};
  }

 private:
  /// The labels of a row, blanks at their ends aside: of a JSON list (which may be written as text), else of a text
  /// that is cut at the separator. No text: no labels.
  std::vector<std::string> labels_of(const Row& row) const {
    const auto found = row.fields.find(columns_.label);
    if (found != row.fields.end() && found->is_array()) return labels_of_list(row, *found);
    const std::string whole = cell(row, columns_.label);
    const std::string_view text = without_blanks(whole);
    if (text.starts_with('[')) {
      check(!nests_too_deep(text), row.source, ": ", columns_.label, ": nests too deep");
      const auto list = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
      check(list.is_array(), row.source, ": ", columns_.label, ": begins with [, but is no list in JSON (",
            shortened(whole, 60), "); expected [\"a\", \"b\"], or names with '", separator_, "' between them");
      return labels_of_list(row, list);
    }
    std::vector<std::string> out;
    if (text.empty()) return out;
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(separator_, begin), text.size());
      add_label(row, std::string(text.substr(begin, end - begin)), out);
      begin = end + separator_.size();
    }
    return out;
  }

  std::vector<std::string> labels_of_list(const Row& row, const nlohmann::ordered_json& list) const {
    std::vector<std::string> out;
    for (const auto& item : list) {
      check(!item.is_null() && !item.is_structured(), row.source, ": ", columns_.label,
            ": expected a list of names, found ", shortened(item.dump(), 60), " in it");
      add_label(row, item.is_string() ? item.get<std::string>() : item.dump(), out);
    }
    return out;
  }

  void add_label(const Row& row, const std::string& label, std::vector<std::string>& out) const {
    out.emplace_back(without_blanks(label));
    check(!out.back().empty(), row.source, ": ", columns_.label, ": an empty label among others");
  }

  void check_labels() const {
    for (const auto& [label, unused] : given_weights_)
      check(labels_.find(label).has_value(), "data.class_weights: '", label,
            "' is no label; known: ", join(labels_.names()));
  }

  /// Each label is a decision between two classes, weighted as scikit-learn weighs one: balanced, rows / (2 x rows with
  /// the label) for rows that have it and rows / (2 x rows without it) for the others.
  void weigh(std::span<const Row> train) {
    if (weighting_ == "none" && given_weights_.empty()) return;
    std::vector<double> with(labels_.size(), 1.0), without(labels_.size(), 1.0), counts(labels_.size());
    for (const auto& [label, weight] : given_weights_) with[static_cast<size_t>(*labels_.find(label))] = weight;
    for (const auto& row : train) {
      std::set<int64_t> classes;
      for (const auto& label : labels_of(row)) classes.insert(labels_.find(label).value());
      for (const int64_t label : classes) ++counts[static_cast<size_t>(label)];
    }
    const auto rows = static_cast<double>(train.size());
    for (size_t i = 0; weighting_ == "balanced" && i < with.size(); ++i) {
      if (counts[i] == 0 || counts[i] == rows) continue;  // one class alone has weight 1
      with[i] = rows / (2 * counts[i]);
      without[i] = rows / (2 * (rows - counts[i]));
    }
    with_ = torch::tensor(with, torch::kFloat32);
    without_ = torch::tensor(without, torch::kFloat32);
  }

  /// [B, C] for labels [B, C].
  torch::Tensor cell_weights(const torch::Tensor& labels) const {
    return torch::where(labels > 0.5, with_.to(labels.device()), without_.to(labels.device()));
  }

  /// [N, C] float64, without weights.
  torch::Tensor losses_of(const torch::Tensor& logits, std::span<const Example> examples) const {
    std::vector<const Example*> all;
    for (const auto& example : examples) all.push_back(&example);
    return torch::binary_cross_entropy_with_logits(logits, label_tensor(all).to(torch::kFloat64), {}, {},
                                                   at::Reduction::None);
  }

  LabelTable expected_of(std::span<const Example> examples) const {
    LabelTable out;
    for (const auto& example : examples) {
      out.emplace_back(labels_.size(), 0);
      for (const int64_t label : example.labels) out.back()[static_cast<size_t>(label)] = 1;
    }
    return out;
  }

  /// float64 [N, C] as lists.
  static std::vector<std::vector<double>> rows_of(const torch::Tensor& values) {
    const torch::Tensor whole = values.contiguous();
    const double* at = whole.const_data_ptr<double>();
    std::vector<std::vector<double>> out;
    for (int64_t i = 0; i < whole.size(0); ++i) out.emplace_back(at + i * whole.size(1), at + (i + 1) * whole.size(1));
    return out;
  }

  LabelTable decide(const torch::Tensor& logits) const {
    LabelTable out;
    for (const auto& row : rows_of(logits.sigmoid())) {
      out.emplace_back();
      for (const double probability : row) out.back().push_back(probability >= threshold_ ? 1 : 0);
    }
    return out;
  }

  nlohmann::ordered_json named(const std::vector<char>& row) const {
    auto out = nlohmann::ordered_json::array();
    for (size_t i = 0; i < row.size(); ++i)
      if (row[i] != 0) out.push_back(labels_.names()[i]);
    return out;
  }

  static constexpr double kEven = 0.5;
  std::vector<std::string> classes_;  ///< of the model's own head; empty where that is new
  std::string separator_ = ",", headline_ = "micro_f1", weighting_ = "none";
  std::map<std::string, double> given_weights_;
  double threshold_ = kEven;
  bool find_threshold_ = false, given_threshold_ = false;  ///< auto; a number, which goes before what a run keeps
  torch::Tensor with_, without_;  ///< [C] for rows that have a label and for those that do not; undefined: all are 1
  LabelNames labels_;
};

}  // namespace

std::unique_ptr<Task> make_multi_label(const Config& data) { return std::make_unique<MultiLabel>(data); }

}  // namespace deeplora
