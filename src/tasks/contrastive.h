// Few-shot classification (SetFit, Tunstall et al. 2022): pairs of the rows tune the encoder, then a logistic head is
// fitted on its pooled vectors.
#pragma once

#include "lm/head.h"
#include "tasks/task.h"

namespace deeplora {

/// Rows as pairs, 1 for those of one label and 0 for others: every two rows once, and every row with itself. The fewer
/// ones are repeated until both kinds are as many, as setfit's `oversampling` has it. The order is of no meaning.
/// Throws Error unless two labels occur.
std::vector<Example> contrastive_pairs(std::span<const Example> rows);

/// A classification as the trainer sees it then: its examples are the pairs, their loss is the squared distance of the
/// vectors' cosine from 1 or 0; whatever scores the model fits the head on the rows first.
class Contrastive : public Task {
 public:
  /// All must outlive the object.
  Contrastive(const Task& task, std::span<const Example> rows, ModelWithHead& model, EvaluationOptions options)
      : task_(task), rows_(rows), model_(model), options_(std::move(options)) {}

  /// The head of the model becomes the logistic regression of the rows' labels on their pooled vectors.
  void fit_head() const;

  std::string name() const override { return task_.name() + ", contrastive"; }
  nlohmann::ordered_json settings() const override { return task_.settings(); }
  std::vector<std::string> columns(bool labelled) const override { return task_.columns(labelled); }
  void fit(std::span<const Row>, std::span<const Row>) override {}  // the task has learnt its labels
  nlohmann::ordered_json state() const override { return task_.state(); }
  void restore(const OrderedJsonFile&) override {}
  void set_pad_id(int64_t) override {}
  Example encode(const Row& row, const Tokenizer* tokenizer, bool labelled) const override {
    return task_.encode(row, tokenizer, labelled);
  }
  int64_t outputs() const override { return task_.outputs(); }
  Batch collate(std::span<const Example* const> pairs) const override;
  double loss_count(const Batch& batch) const override { return static_cast<double>(batch.labels.size(0)); }
  /// `output.logits` are the vectors of all first texts, then of all second ones.
  torch::Tensor loss_sum(const ModelOutput& output, const Batch& batch) const override;
  torch::Tensor loss_of(LanguageModel& model, const Batch& batch) const override;
  Scores evaluate(LanguageModel& model, std::span<const Example> examples,
                  const EvaluationOptions& options) const override;
  std::vector<nlohmann::ordered_json> predict(LanguageModel& model, std::span<const Example> examples,
                                              const EvaluationOptions& options) const override {
    return task_.predict(model, examples, options);
  }

 private:
  const Task& task_;
  std::span<const Example> rows_;
  ModelWithHead& model_;
  EvaluationOptions options_;
};

}  // namespace deeplora
