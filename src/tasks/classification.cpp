#include <torch/torch.h>

#include <map>
#include <set>

#include "tasks/metrics.h"
#include "tasks/task_state.h"
#include "tasks/text_task.h"

namespace deeplora {
namespace {

/// Labels may be any text or number; the list is learnt from the training rows and kept with the run.
class Classification : public TextTask {
 public:
  Classification(const std::string& name, const Config& data, const TextColumns& defaults, std::string headline)
      : TextTask(name, data, defaults), headline_(std::move(headline)) {
    data.read("positive", positive_, "label that f1 is about; empty: the last of two labels, the mean over labels for more");
  }

  void fit(std::span<const Row> /*train*/, std::span<const Row> all) override {
    std::set<std::string> found;
    Errors errors;
    for (const auto& row : all) {
      try {
        const std::string label = cell(row, columns_.label);
        if (label.empty()) errors.add(row.source, ": ", columns_.label, ": an empty label");
        else found.insert(label);
      } catch (const Error& e) {
        errors.add(e.what());
      }
    }
    errors.throw_if_any();
    labels_.assign(found.begin(), found.end());
    // "10" after "9": labels that are all numbers are put in their order.
    if (std::all_of(labels_.begin(), labels_.end(), is_number))
      std::stable_sort(labels_.begin(), labels_.end(), [](const auto& a, const auto& b) { return std::stod(a) < std::stod(b); });
    check(labels_.size() >= 2, "the training rows hold only one label, '", labels_.front(), "' (column ", columns_.label,
          "); a classification needs at least two");
    check(labels_.size() <= 1000, "the training rows hold ", labels_.size(), " different labels in column ", columns_.label,
          " (", join(labels_, ", ", 4), "); is this a regression? Set data.task: regression");
    index_labels();
  }

  nlohmann::ordered_json state() const override { return {{"labels", labels_}}; }
  void restore(const OrderedJsonFile& state) override {
    labels_ = read_labels(state);
    index_labels();
  }
  int64_t outputs() const override { return static_cast<int64_t>(labels_.size()); }

  torch::Tensor loss_sum(const ModelOutput& output, const Batch& batch) const override {
    return torch::nn::functional::cross_entropy(output.logits.to(torch::kFloat32), batch.labels,
                                                torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kSum));
  }

 protected:
  void read_label(const Row& row, Example& example) const override {
    const std::string label = cell(row, columns_.label);
    const auto found = index_.find(label);
    check(found != index_.end(), row.source, ": ", columns_.label, ": label '", label, "' does not occur in the training rows; known: ",
          join(labels_));
    example.label = found->second;
  }

  torch::Tensor label_tensor(std::span<const Example* const> examples) const override {
    std::vector<int64_t> values;
    for (const Example* example : examples) values.push_back(example->label);
    return torch::tensor(values, torch::kInt64);
  }

  Scores scores(const torch::Tensor& logits, std::span<const Example> examples) const override {
    std::vector<int64_t> expected;
    for (const auto& example : examples) expected.push_back(example.label);
    const torch::Tensor best = logits.argmax(1).contiguous();
    const std::span<const int64_t> predicted(best.const_data_ptr<int64_t>(), expected.size());
    const auto labels = torch::tensor(expected, torch::kInt64);
    std::map<std::string, double> all{{"accuracy", accuracy(predicted, expected)},
                                      {"f1", f1(predicted, expected)},
                                      {"matthews", matthews(predicted, expected)},
                                      {"loss", torch::nn::functional::cross_entropy(logits, labels).item<double>()}};
    Scores out;
    out.values.emplace_back(headline_, all.at(headline_));
    for (const char* name : {"accuracy", "f1", "matthews", "loss"})
      if (name != headline_) out.values.emplace_back(name, all.at(name));
    return out;
  }

  nlohmann::ordered_json prediction(const torch::Tensor& logits) const override {
    const torch::Tensor probabilities = logits.softmax(0);
    const auto list = [](const torch::Tensor& t) { return std::vector<double>(t.const_data_ptr<double>(), t.const_data_ptr<double>() + t.numel()); };
    return {{"prediction", labels_.at(static_cast<size_t>(logits.argmax().item<int64_t>()))},
            {"logits", list(logits.contiguous())},
            {"probabilities", list(probabilities.contiguous())}};
  }

 private:
  static bool is_number(const std::string& text) {
    char* end = nullptr;
    std::strtod(text.c_str(), &end);
    return !text.empty() && *end == '\0';
  }

  double f1(std::span<const int64_t> predicted, std::span<const int64_t> expected) const {
    if (!positive_.empty()) return f1_of_class(predicted, expected, index_.at(positive_));
    return labels_.size() == 2 ? f1_of_class(predicted, expected, 1) : f1_macro(predicted, expected);
  }

  void index_labels() {
    index_.clear();
    for (size_t i = 0; i < labels_.size(); ++i) index_.emplace(labels_[i], static_cast<int64_t>(i));
    check(positive_.empty() || index_.count(positive_), "data.positive: '", positive_, "' is no label; known: ", join(labels_));
  }

  std::string headline_, positive_;
  std::vector<std::string> labels_;
  std::map<std::string, int64_t> index_;
};

}  // namespace

std::unique_ptr<Task> make_classification(const std::string& name, const Config& data, const TextColumns& defaults,
                                          const std::string& headline) {
  return std::make_unique<Classification>(name, data, defaults, headline);
}

}  // namespace deeplora
