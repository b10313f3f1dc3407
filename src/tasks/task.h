// All that is particular to a task: columns, labels, batches, loss, scores, predictions.
#pragma once

#include <nlohmann/json.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/config.h"
#include "core/json_file.h"
#include "core/process_group.h"
#include "core/registry.h"
#include "lm/language_model.h"
#include "tasks/assessment.h"
#include "text/table.h"
#include "text/tokenizer.h"

namespace deeplora {

struct RowWords;

/// A word that a window decides, and the cell of its first piece.
struct WordCell {
  int64_t word = 0, cell = 0;
};

/// One row as the model takes it.
struct Example {
  std::string source;                   ///< file:line, for messages
  std::vector<int64_t> input_ids;       ///< special tokens included
  std::vector<int64_t> token_type_ids;  ///< empty or as long as input_ids
  std::vector<int64_t> attention_mask;  ///< empty (all ones) or as long as input_ids, beginning with 1
  std::vector<int64_t> label_ids;  ///< language models: the token to predict at each place, -100 where none (causal: as
                                   ///< long as input_ids and not shifted; sequence to sequence: the target)
  std::vector<int64_t> prompt_ids;           ///< what a language model is given to continue (causal)
  std::vector<std::string> references;       ///< texts that a generated one is compared with
  std::vector<int64_t> labels;               ///< classes of a row that may have several
  int64_t label = 0;                         ///< class of a classification
  std::vector<double> targets;               ///< values of a regression, in their own units
  std::vector<std::vector<double>> tensors;  ///< values of the task's tensor_inputs(), in row-major order
  bool labelled = false;
  bool truncated = false;
  int64_t tokens_cut = 0;                   ///< of a truncated text, where it is known
  bool joined = false;                      ///< language models: may share a block with other rows
  std::string query{};                      ///< of a ranking: rows with the same are judged together
  std::shared_ptr<const RowWords> words{};  ///< tags of words: the row's words, the same for all of its windows
  std::vector<WordCell> cells{};            ///< of the words that are decided here
  std::vector<Example> windows{};           ///< of a row that is too long for one: those behind the first
  size_t second = 0;  ///< of a preference: where the rejected sequence begins, behind the chosen one; 0: there is none
  std::vector<double> reference{};  ///< what Task::refer() found
  /// Further texts of the row, each as the model takes it: the partner of an embedding's pair, its hard negative.
  std::vector<Example> others{};

  /// Ids of all its texts.
  int64_t tokens() const {
    auto count = static_cast<int64_t>(input_ids.size());
    for (const Example& other : others) count += other.tokens();
    return count;
  }
};

/// A batch of rows whose losses depend on each other, as a step computes it.
struct JointRows {
  LanguageModel& model;
  std::span<const Example* const> rows;  ///< of all processes
  torch::Device device = torch::kCPU;
  bool bf16 = false;
  int64_t batch_size = 1;         ///< most rows of one forward pass
  double divisor = 1;             ///< gradients are of the loss over this
  ProcessGroup* group = nullptr;  ///< processes that share the rows; null: this one takes all
};

/// How evaluate() runs the model.
struct EvaluationOptions {
  int64_t batch_size = 64;
  torch::Device device = torch::kCPU;
  bool bf16 = false;
  bool final = false;  ///< scores that are reported, not those that choose the best checkpoint
  /// predict(): takes the text of the first row piece by piece while it is generated. May be empty.
  std::function<void(std::string_view)> on_text{};
  /// evaluate(): processes that share the examples; all get the scores of all. Null: this one does all.
  ProcessGroup* group = nullptr;
  /// assess(): the loss of every row as well, where that takes a pass of its own (language models).
  bool row_losses = false;
};

/// What a task may read of the model it is for.
struct TaskModel {
  JsonFile config;             ///< config.json, or an empty object
  JsonFile generation_config;  ///< generation_config.json, or an empty object
  TokenizerFiles tokenizer_files;
  std::shared_ptr<const Tokenizer> tokenizer;  ///< null when there is none
  bool has_decoder = false;                    ///< takes decoder_input_ids
  bool gives_hidden = false;                   ///< is known to give hidden states, no logits
  std::vector<std::string> tensors{};          ///< fields of rows that it takes as tensors
  bool takes_ids = true;                       ///< false: it takes nothing else
};

class Task {
 public:
  virtual ~Task() = default;
  virtual std::string name() const = 0;
  /// The keys of `data` that this task read, with their values: enough to make the same task again.
  virtual nlohmann::ordered_json settings() const = 0;
  /// Columns that a file must have; `labelled` adds the label.
  virtual std::vector<std::string> columns(bool labelled) const = 0;
  /// Learns the target's mean and spread from the training rows, the label list from `all` rows of the training file (a
  /// few drawn rows may miss a label). Throws Error for bad labels, all at once.
  virtual void fit(std::span<const Row> train, std::span<const Row> all) = 0;
  /// What fit() learnt, kept in the run folder and in exports; restore() takes it back.
  virtual nlohmann::ordered_json state() const = 0;
  virtual void restore(const OrderedJsonFile& state) = 0;
  /// Id that fills cells beyond a text (masked out, but some models read it: RoBERTa counts positions by it).
  virtual void set_pad_id(int64_t id) = 0;
  /// Languages that a translator's tokenizer marks texts with; empty for everything else.
  virtual Languages languages() const { return {}; }
  /// Names of the classes that the model's own head gives, in their order; called before fit() where the head that is
  /// used lies in the model's files.
  virtual void use_classes(const std::vector<std::string>& /*names*/) {}
  /// Called before any row is encoded. Throws Error for a model of another kind.
  virtual void use_model(const TaskModel& /*model*/) {}
  /// What its rows carry by name, as fit() or restore() learnt it; the dtypes are settled by what the model takes.
  virtual std::vector<TensorInput> tensor_inputs() const { return {}; }
  virtual void set_tensor_inputs(std::vector<TensorInput> /*inputs*/) {}
  /// False where rows are tensors alone: there is nothing to tokenize.
  virtual bool reads_tokens() const { return true; }
  /// How the task's files are read: columns, and what may stand in for them.
  virtual void table_options(TableOptions& options, bool labelled) const { options.wanted = columns(labelled); }
  /// What is to be said once of the rows of a file: empty texts, blanks around labels.
  virtual std::vector<std::string> remarks(const std::vector<Row>& /*rows*/, bool /*labelled*/) const { return {}; }
  /// How often every label occurs, by its name; empty where labels are no names.
  virtual std::vector<std::pair<std::string, size_t>> label_counts(std::span<const Example> /*examples*/) const {
    return {};
  }
  /// Of labelled examples, for the line that a run begins with: "labels neg 602, pos 602"; "" for nothing.
  virtual std::string label_summary(std::span<const Example> /*examples*/) const { return ""; }
  /// Rows that are drawn for dev and test hold each of these as often as the whole: the class; the same for all rows
  /// where there is none.
  virtual std::string stratum(const Row& /*row*/) const { return ""; }
  /// What a loss is the mean over, in one word or two: "row", "predicted token".
  virtual std::string loss_unit() const { return "row"; }
  /// The task by which other programs know the kind of model that it trains: causal-lm, seq2seq, or its own name.
  virtual std::string model_kind() const { return name(); }
  /// problem_type of transformers' config.json; "" where it has none for this task.
  virtual std::string problem_type() const { return ""; }
  /// What the model is given of a row: rows that agree in it are the same to it, whatever their labels.
  virtual std::string input_of(const Row& row) const { return row.fields.dump(); }
  /// Rows that agree in it are dealt out together, all to one of train, dev and test.
  virtual std::string stays_with(const Row& row) const { return input_of(row); }
  /// Labelled rows as they are encoded: language modelling joins the lines of a document.
  virtual std::vector<Row> documents(std::vector<Row> rows) const { return rows; }
  /// Labelled examples as they are trained on: language modelling packs them. `what` names the rows.
  virtual std::vector<Example> arrange(std::vector<Example> examples, std::string_view /*what*/) const {
    return examples;
  }
  /// {mean, spread} in which a new head learns its output; {0, 1} where the output is not a quantity.
  virtual std::pair<double, double> output_scale() const { return {0.0, 1.0}; }
  /// Tokenizes a row (tokenizer may be null when rows carry input_ids). Throws Error naming row.source.
  virtual Example encode(const Row& row, const Tokenizer* tokenizer, bool labelled) const = 0;
  virtual Batch collate(std::span<const Example* const> examples) const = 0;
  /// What a loss is divided by: samples (where classes have weights, the sum of theirs), or tokens that are predicted.
  virtual double loss_count(const Batch& batch) const = 0;
  /// What the second of two means is divided by (tokens beside pairs), where the loss is the sum of two; 0: it is one.
  /// Such a loss takes its second sum times Batch::balance, so that a step is the same however it is cut.
  virtual double second_count(const Batch& /*batch*/) const { return 0; }
  /// Scalar: the SUM over loss_count(batch) items.
  virtual torch::Tensor loss_sum(const ModelOutput& output, const Batch& batch) const = 0;
  /// The same of what the model makes of the batch.
  virtual torch::Tensor loss_of(LanguageModel& model, const Batch& batch) const {
    return loss_sum(model.forward(batch), batch);
  }
  /// Rows that a batch of the loop holds where `train.batch_size` are those of one forward pass.
  virtual int64_t rows_of_batch(int64_t batch_size) const { return batch_size; }
  /// Whether the loss of a row depends on the other rows of its batch. Such a loss counts rows, and a step takes it
  /// from backward_jointly() in place of loss_of().
  virtual bool joint() const { return false; }
  /// Adds the gradients of the loss sum over `divisor`, with a group those that this process's part of the rows has
  /// (all processes call it). Returns the sum, the same in every process.
  virtual double backward_jointly(const JointRows& /*rows*/) const {
    throw std::logic_error("Task::backward_jointly: not a joint task");
  }
  /// Scores of the model (in eval mode, without gradients) on labelled examples; with a group, every process has the
  /// same examples and computes its part of the outputs.
  virtual Scores evaluate(LanguageModel& model, std::span<const Example> examples,
                          const EvaluationOptions& options) const = 0;
  /// The same scores with what stands behind them: labels, and what became of every row.
  virtual Assessment assess(LanguageModel& model, std::span<const Example> examples,
                            const EvaluationOptions& options) const {
    Assessment out;
    out.scores = evaluate(model, examples, options);
    return out;
  }
  /// Whether loss and scores compare the model with what it was before it was trained.
  virtual bool needs_reference() const { return false; }
  /// Gives examples what loss and scores need of the model as its files have it (Example::reference); it is in that
  /// state now. With a group, as evaluate().
  virtual void refer(LanguageModel& /*model*/, std::span<Example> /*examples*/,
                     const EvaluationOptions& /*options*/) const {}
  /// Whether scores with these options are of generated texts too.
  virtual bool generates(const EvaluationOptions& /*options*/) const { return false; }
  /// True where Example::label is one class of several.
  virtual bool classifies() const { return false; }
  /// True for results that a family's own head can give: one of a whole text, or of each token.
  virtual bool takes_class_head() const { return false; }
  /// True for a result of each token: logits are [B, T, C].
  virtual bool tags_tokens() const { return false; }
  /// Width of the logits, C; 0 when the task takes the model's own output (language modelling).
  virtual int64_t outputs() const = 0;
  /// True for a task whose logits are a text's vector: the model's states pooled, without a head. outputs() is the
  /// vector's width then, which use_width() tells once the model is there.
  virtual bool embeds() const { return false; }
  /// Throws Error where the task cannot use vectors of that width.
  virtual void use_width(int64_t /*width*/) {}
  /// After training: chooses on dev what no gradient reaches (a threshold), with the scores that come of it; nothing
  /// where there is nothing to choose. state() holds it from then on.
  virtual std::optional<Scores> choose_on_dev(LanguageModel& /*model*/, std::span<const Example> /*dev*/,
                                              const EvaluationOptions& /*options*/) {
    return std::nullopt;
  }
  /// One JSON object per example, in order.
  virtual std::vector<nlohmann::ordered_json> predict(LanguageModel& model, std::span<const Example> examples,
                                                      const EvaluationOptions& options) const = 0;
};

/// Reads its keys of the `data` section.
using TaskFactory = std::function<std::unique_ptr<Task>(const Config& data)>;
using Tasks = Registry<TaskFactory>;

}  // namespace deeplora
