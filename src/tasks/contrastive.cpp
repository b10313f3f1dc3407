#include "tasks/contrastive.h"

#include <torch/torch.h>

#include "lm/pooled_model.h"
#include "tasks/embedding_loss.h"
#include "tasks/logistic.h"
#include "tasks/text_task.h"

namespace deeplora {
namespace {

/// A row's text without its label.
Example unlabelled(const Example& row) {
  Example out = row;
  out.labelled = false;
  return out;
}

Example pair_of(const Example& a, const Example& b) {
  Example out = unlabelled(a);
  out.source = cat(a.source, " and ", b.source);
  out.others.push_back(unlabelled(b));
  out.targets = {a.label == b.label ? 1.0 : 0.0};
  return out;
}

/// Repeats the rows from the first until there are so many.
void repeat_to(std::vector<Example>& pairs, size_t count) {
  const size_t own = pairs.size();
  for (size_t i = own; own > 0 && i < count; ++i) pairs.push_back(pairs[i - own]);
}

}  // namespace

std::vector<Example> contrastive_pairs(std::span<const Example> rows) {
  constexpr size_t kMostRows = 1000;  // half a million pairs
  check(rows.size() <= kMostRows, "train.contrastive: ", rows.size(),
        " training rows make too many pairs; it is for a few "
        "rows of each label: data.samples draws some (at most ",
        kMostRows, ")");
  std::vector<Example> same, other;
  for (size_t i = 0; i < rows.size(); ++i)
    for (size_t j = i; j < rows.size(); ++j)  // a row with itself too, as setfit has it: dropout tells them apart
      (rows[i].label == rows[j].label ? same : other).push_back(pair_of(rows[i], rows[j]));
  check(!other.empty(), "train.contrastive: the training rows hold a single label; pairs need two");
  const size_t count = std::max(same.size(), other.size());
  repeat_to(same, count);
  repeat_to(other, count);
  same.insert(same.end(), std::make_move_iterator(other.begin()), std::make_move_iterator(other.end()));
  return same;
}

void Contrastive::fit_head() const {
  // The model's states pooled, in its own mode: whoever evaluates has switched dropout off.
  PooledModel pooled(model_.base_model(),
                     {.pooling = model_.options().pooling, .normalize = model_.options().normalize});
  pooled.train(model_.is_training());
  std::vector<Example> texts;
  std::vector<int64_t> classes;
  for (const Example& row : rows_) {
    texts.push_back(unlabelled(row));
    classes.push_back(row.label);
  }
  EvaluationOptions options = options_;
  options.group = nullptr;  // a few rows; the head is the same everywhere
  const torch::Tensor vectors = all_logits(task_, pooled, texts, options);
  const LogisticFit fit = fit_logistic(vectors, torch::tensor(classes, torch::kInt64), task_.outputs());
  model_.set_head(fit.weight, fit.bias);
}

Batch Contrastive::collate(std::span<const Example* const> pairs) const {
  std::vector<const Example*> texts(pairs.begin(), pairs.end());
  std::vector<double> same;
  for (const Example* pair : pairs) {
    texts.push_back(&pair->others.at(0));
    same.push_back(pair->targets.front());
  }
  Batch batch = task_.collate(texts);
  batch.labels = torch::tensor(same, torch::kFloat64);
  return batch;
}

torch::Tensor Contrastive::loss_sum(const ModelOutput& output, const Batch& batch) const {
  return embedding_loss(output.logits, batch.labels, {.kind = EmbeddingLossKind::cosine}) * batch.labels.size(0);
}

torch::Tensor Contrastive::loss_of(LanguageModel&, const Batch& batch) const {
  return loss_sum(
      {.hidden = {}, .logits = pooled_states(*model_.base_model(), batch, model_.options().pooling, "a new head")},
      batch);
}

Scores Contrastive::evaluate(LanguageModel& model, std::span<const Example> examples,
                             const EvaluationOptions& options) const {
  fit_head();
  return task_.evaluate(model, examples, options);
}

}  // namespace deeplora
