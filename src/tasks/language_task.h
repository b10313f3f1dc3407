// What causal and sequence-to-sequence language modelling share: loss, perplexity, generated text and its scores.
#pragma once

#include "tasks/generation_config.h"
#include "tasks/row_ids.h"
#include "tasks/task.h"

namespace deeplora {

class LanguageTask : public Task {
 public:
  std::string name() const override { return name_; }
  nlohmann::ordered_json settings() const override;
  void fit(std::span<const Row>, std::span<const Row>) override {}
  nlohmann::ordered_json state() const override { return nlohmann::ordered_json::object(); }
  void restore(const OrderedJsonFile&) override {}
  void set_pad_id(int64_t id) override { pad_id_ = id; }
  void use_model(const TaskModel& model) override;
  std::vector<std::string> remarks(const std::vector<Row>& rows, bool labelled) const override;
  /// Leaves out examples without anything to predict, with a warning that names them.
  std::vector<Example> arrange(std::vector<Example> examples, std::string_view what) const override;
  int64_t outputs() const override { return 0; }
  std::string model_kind() const override { return takes_decoder() ? "seq2seq" : "causal-lm"; }
  std::string loss_unit() const override { return "predicted token"; }
  double loss_count(const Batch& batch) const override;
  torch::Tensor loss_sum(const ModelOutput& output, const Batch& batch) const override;
  torch::Tensor loss_of(LanguageModel& model, const Batch& batch) const override;
  bool generates(const EvaluationOptions& options) const override;
  Scores evaluate(LanguageModel& model, std::span<const Example> examples,
                  const EvaluationOptions& options) const override;
  /// Rows hold the texts where the scores ask for some: label is the first reference, prediction what was generated.
  Assessment assess(LanguageModel& model, std::span<const Example> examples,
                    const EvaluationOptions& options) const override;
  /// {"text": ...}, or {"ids": [...]} without a tokenizer.
  std::vector<nlohmann::ordered_json> predict(LanguageModel& model, std::span<const Example> examples,
                                              const EvaluationOptions& options) const override;

 protected:
  /// What a task is scored by.
  struct Scoring {
    std::vector<std::string> metrics;  ///< one of them chooses the checkpoint: the first, unless data.metric says other
    std::string metric_doc;
    bool texts = true;  ///< generated texts may be scored: data.references and data.generate
  };
  /// Loss, perplexity, and scores of generated texts.
  static Scoring text_scoring();
  /// Reads max_length, too_long, prompt_template, metric and generation of the `data` section, and where texts are
  /// scored references and generate.
  LanguageTask(std::string name, const Config& data, const Scoring& scoring);
  /// What generation starts from.
  virtual const std::vector<int64_t>& prompt_of(const Example& example) const = 0;
  /// True when a model with decoder_input_ids is wanted.
  virtual bool takes_decoder() const = 0;
  /// New tokens that the model's positions leave after a prompt; 0: no limit.
  virtual int64_t new_token_limit(const std::vector<int64_t>& prompt) const = 0;

  /// max_length is at most the model's positions (0: unknown); said where somebody asked for more.
  void limit_length(int64_t positions);
  const Tokenizer& tokenizer(const Row& row) const;
  /// Text of a cell; `what` is the key that names the column.
  static std::string text_of(const Row& row, const std::string& column, const std::string& key);
  /// A cell that is one text or a list of them.
  static std::vector<std::string> texts_of(const Row& row, const std::string& column, const std::string& key);
  /// The prompt of a row: its column, or prompt_template with columns filled in.
  std::string prompt_text(const Row& row, const std::string& column, const std::string& key) const;
  /// Columns that prompt_template names.
  std::vector<std::string> template_columns() const;
  /// References of a row: the answer's cell and the references column.
  std::vector<std::string> references_of(const Row& row, const std::string& answer_column,
                                         const std::string& key) const;
  /// Handles an answer of `tokens` where `room` fit, as data.too_long says: cuts and marks, marks as dropped (no
  /// labels), or fails.
  void fit_answer(std::vector<int64_t>& answer, int64_t room, Example& example, const std::string& what) const;
  /// Tokens of a row that brings its own ids: read_row_ids() for models that take neither gaps in the mask nor token
  /// types.
  static RowIds read_model_ids(const Row& row, bool with_labels);
  /// -log p of every label of the batch [n] float32, in the order of their cells, by whichever way takes less memory.
  torch::Tensor token_losses_of(LanguageModel& model, const Batch& batch) const;
  /// The same of logits of every token [B, T, V]; throws Error for others.
  torch::Tensor token_losses_of(const ModelOutput& output, const Batch& batch) const;
  /// Places of rows with these lengths in the batches that evaluate them, longest first: as many rows at once as the
  /// options and the size of the logits allow, and a part for every process.
  std::vector<std::vector<size_t>> evaluation_batches(const std::vector<size_t>& lengths,
                                                      const EvaluationOptions& options) const;

  std::string name_, prompt_template_, references_column_ = "references", too_long_ = "error", metric_,
                                       generate_ = "false";
  static constexpr int64_t kDefaultLength = 512;
  int64_t max_length_ = kDefaultLength, pad_id_ = 0;
  int64_t eos_id_ = -1;                             ///< ends a text; -1 unknown
  std::vector<int64_t> text_prefix_, text_suffix_;  ///< special tokens that the tokenizer puts around a text
  GenerationConfig generation_;
  TaskModel model_;

 private:
  bool scores_texts_ = true;
  /// {sum of losses, predicted tokens}.
  std::pair<double, int64_t> total_loss(LanguageModel& model, std::span<const Example> examples,
                                        const EvaluationOptions& options) const;
  std::vector<std::vector<int64_t>> generate_ids(LanguageModel& model,
                                                 const std::vector<const std::vector<int64_t>*>& prompts,
                                                 const EvaluationOptions& options) const;
  std::string text_of_ids(std::span<const int64_t> ids) const;
  void add_text_scores(Assessment& out, LanguageModel& model, std::span<const Example> examples,
                       const EvaluationOptions& options) const;
  void add_row_losses(Assessment& out, LanguageModel& model, std::span<const Example> examples,
                      EvaluationOptions options) const;
};

std::unique_ptr<Task> make_seq2seq(const Config& data);

}  // namespace deeplora
