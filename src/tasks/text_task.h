// Tasks on one text or a pair of texts with one label per row.
#pragma once

#include <map>

#include "tasks/row_tensors.h"
#include "tasks/text_rows.h"

namespace deeplora {

/// Columns of a task over texts; the `data` section may rename them.
struct TextColumns {
  std::string text = "text", text_pair, label = "label";
  /// What published files call these columns besides; an index holds for files without a header. Columns that `data`
  /// names have no others.
  std::map<std::string, std::vector<std::string>> also{};
  std::string text_key = "text", pair_key = "text_pair";  ///< keys of `data` that name them
};

/// Tokenizing, padding and evaluating, shared by classification and regression. Rows of a model that takes tensors
/// carry these, beside a text or alone.
class TextTask : public Task {
 public:
  std::string name() const override { return name_; }
  nlohmann::ordered_json settings() const override;
  std::vector<std::string> columns(bool labelled) const override;
  void table_options(TableOptions& options, bool labelled) const override;
  Example encode(const Row& row, const Tokenizer* tokenizer, bool labelled) const override;
  std::vector<std::string> remarks(const std::vector<Row>& rows, bool labelled) const override;
  std::string input_of(const Row& row) const override;
  Batch collate(std::span<const Example* const> examples) const override;
  void set_pad_id(int64_t id) override { pad_id_ = id; }
  void use_model(const TaskModel& model) override { tensors_.use(model.tensors, model.takes_ids); }
  void fit(std::span<const Row> train, std::span<const Row> all) final;
  nlohmann::ordered_json state() const final;
  void restore(const OrderedJsonFile& state) final;
  std::vector<TensorInput> tensor_inputs() const override { return tensors_.inputs(); }
  void set_tensor_inputs(std::vector<TensorInput> inputs) override { tensors_.set_inputs(std::move(inputs)); }
  bool reads_tokens() const override { return !tensors_.instead_of_text(); }
  bool takes_class_head() const override { return true; }
  double loss_count(const Batch& batch) const override { return static_cast<double>(batch.size()); }
  Scores evaluate(LanguageModel& model, std::span<const Example> examples,
                  const EvaluationOptions& options) const override;
  Assessment assess(LanguageModel& model, std::span<const Example> examples,
                    const EvaluationOptions& options) const override;
  std::vector<nlohmann::ordered_json> predict(LanguageModel& model, std::span<const Example> examples,
                                              const EvaluationOptions& options) const override;

 protected:
  /// Reads text, text_pair, label and max_length of the `data` section over the given defaults.
  TextTask(std::string name, const Config& data, TextColumns defaults);
  /// fit(), state() and restore() of what a label is.
  virtual void fit_labels(std::span<const Row> train, std::span<const Row> all) = 0;
  virtual nlohmann::ordered_json label_state() const = 0;
  virtual void restore_labels(const OrderedJsonFile& state) = 0;
  /// Label of a row into the example; throws Error naming the row.
  virtual void read_label(const Row& row, Example& example) const = 0;
  virtual torch::Tensor label_tensor(std::span<const Example* const> examples) const = 0;
  /// logits [N, C] float64 on the CPU, in the order of examples.
  virtual Scores scores(const torch::Tensor& logits, std::span<const Example> examples) const = 0;
  /// Details, classes and rows (whose sources are there) of the same logits.
  virtual void describe(const torch::Tensor& logits, std::span<const Example> examples, Assessment& out) const = 0;
  virtual nlohmann::ordered_json prediction(const torch::Tensor& logits /* [C] */) const = 0;

  static std::string cell(const Row& row, const std::string& column) { return text_cell(row, column); }

  std::string name_;
  TextColumns columns_;
  RowTensors tensors_;
  int64_t max_length_ = 128;
  int64_t pad_id_ = 0;

 private:
  Example encode_words(const Row& row, const Tokenizer* tokenizer) const;
};

/// Logits [N, C] (float64, CPU) of examples, evaluated in batches of similar length, returned in their order.
torch::Tensor all_logits(const Task& task, LanguageModel& model, std::span<const Example> examples,
                         const EvaluationOptions& options);

/// data.class_weights: none, balanced or weights by label, of which one of the two is filled.
void read_label_weights(const Config& data, std::string& weighting, std::map<std::string, double>& given);
/// data.threshold; true for auto: to be chosen on dev.
bool read_threshold(const Config& data, double& threshold);

/// The metric that decides, and the others that are shown.
std::unique_ptr<Task> make_classification(const std::string& name, const Config& data, const TextColumns& defaults,
                                          const std::string& headline);
std::unique_ptr<Task> make_regression(const std::string& name, const Config& data, const TextColumns& defaults,
                                      const std::string& headline);
std::unique_ptr<Task> make_multi_label(const Config& data);
std::unique_ptr<Task> make_ranking(const Config& data);
std::unique_ptr<Task> make_token_classification(const Config& data);

}  // namespace deeplora
