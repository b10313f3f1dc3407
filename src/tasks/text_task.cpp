#include "tasks/text_task.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "tasks/batches.h"
#include "tasks/label_names.h"
#include "tasks/row_ids.h"
#include "tasks/text_rows.h"

namespace deeplora {

TextTask::TextTask(std::string name, const Config& data, TextColumns defaults)
    : name_(std::move(name)), columns_(std::move(defaults)) {
  data.read(columns_.text_key, columns_.text,
            columns_.text_key == "text" ? "column of the text: name, or 0-based index" : "column of the queries");
  data.read(columns_.pair_key, columns_.text_pair,
            columns_.pair_key == "text" ? "column of the text: name, or 0-based index"
                                        : "column of the second text of a pair; empty: single texts");
  data.read("label", columns_.label, "column of the label");
  data.read("max_length", max_length_,
            "longest input in tokens, special tokens included; longer texts are cut and counted");
  data.require(max_length_ >= 3, "max_length", "at least 3 tokens");
}

nlohmann::ordered_json TextTask::settings() const {
  return {{columns_.text_key, columns_.text},
          {columns_.pair_key, columns_.text_pair},
          {"label", columns_.label},
          {"max_length", max_length_}};
}

void TextTask::fit(std::span<const Row> train, std::span<const Row> all) {
  tensors_.fit(all);
  fit_labels(train, all);
}

nlohmann::ordered_json TextTask::state() const {
  nlohmann::ordered_json out = label_state();
  tensors_.add_to(out);
  return out;
}

void TextTask::restore(const OrderedJsonFile& state) {
  tensors_.restore(state);
  restore_labels(state);
}

std::vector<std::string> TextTask::columns(bool labelled) const {
  std::vector<std::string> out{columns_.text};
  if (!columns_.text_pair.empty()) out.push_back(columns_.text_pair);
  if (!reads_tokens()) out = tensors_.fields();
  if (labelled) out.push_back(columns_.label);
  return out;
}

void TextTask::table_options(TableOptions& options, bool labelled) const {
  options.known.insert(options.known.end(), tensors_.fields().begin(), tensors_.fields().end());
  options.aliases = columns_.also;
  if (!reads_tokens()) {  // what is said of a missing field is about the model
    if (labelled) options.wanted = {columns_.label};
    options.keys = {{columns_.label, "data.label"}};
    options.stand_ins.clear();
    return;
  }
  options.wanted = columns(labelled);
  options.keys = {{columns_.text, "data." + columns_.text_key}, {columns_.label, "data.label"}};
  if (!columns_.text_pair.empty()) options.keys[columns_.text_pair] = "data." + columns_.pair_key;
}

Example TextTask::encode_words(const Row& row, const Tokenizer* tokenizer) const {
  if (row.fields.contains("input_ids")) return encode_ids(row, max_length_);
  const std::string text = cell(row, columns_.text);
  std::optional<std::string> pair;
  if (!columns_.text_pair.empty()) pair = cell(row, columns_.text_pair);
  return encode_text(row, columns_.text, text, pair, tokenizer, max_length_);
}

Example TextTask::encode(const Row& row, const Tokenizer* tokenizer, bool labelled) const {
  Example example = reads_tokens() ? encode_words(row, tokenizer) : Example();
  if (tensors_.any()) example.tensors = tensors_.read(row);
  example.source = row.source;
  if (labelled) {
    read_label(row, example);
    example.labelled = true;
  }
  return example;
}

std::vector<std::string> TextTask::remarks(const std::vector<Row>& rows, bool labelled) const {
  Remark blanks;
  for (const auto& row : rows) {
    const std::string* label = labelled ? text_in(row, columns_.label) : nullptr;
    if (label && without_blanks(*label).size() != label->size()) blanks.add(row);
  }
  const Remark empty = reads_tokens() ? empty_texts(rows, {columns_.text, columns_.text_pair}) : Remark();
  std::vector<std::string> out;
  for (std::string said : {empty.said(rows.size(), " rows have an empty text"),
                           blanks.said(rows.size(), cat(" values of column ", columns_.label,
                                                        " had blanks at an end, which are not part of them")),
                           turned_rows(rows)})
    if (!said.empty()) out.push_back(std::move(said));
  return out;
}

std::string TextTask::input_of(const Row& row) const {
  if (!reads_tokens()) return tensors_.text_of(row);
  const std::string text = row.fields.contains("input_ids") ? row.fields["input_ids"].dump()
                           : columns_.text_pair.empty()
                               ? cell(row, columns_.text)
                               : cat(cell(row, columns_.text), '\0', cell(row, columns_.text_pair));
  return tensors_.any() ? cat(text, '\0', tensors_.text_of(row)) : text;
}

Batch TextTask::collate(std::span<const Example* const> examples) const {
  Batch batch = reads_tokens() ? pad_texts(examples, pad_id_) : Batch();
  batch.tensors = tensors_.collate(examples);
  if (std::all_of(examples.begin(), examples.end(), [](const Example* e) { return e->labelled; }))
    batch.labels = label_tensor(examples);
  return batch;
}

torch::Tensor all_logits(const Task& task, LanguageModel& model, std::span<const Example> examples,
                         const EvaluationOptions& options) {
  std::vector<const Example*> all;
  for (const auto& example : examples) all.push_back(&example);
  const auto rows = static_cast<int64_t>(all.size());
  torch::Tensor out;  // as wide as what the model gives: vectors are none of task.outputs()
  each_batch(task, model, all, options, [&](std::span<const size_t> places, const torch::Tensor& logits) {
    if (!out.defined()) out = torch::zeros({rows, logits.size(1)}, torch::kFloat64);
    out.index_copy_(0, torch::tensor(std::vector<int64_t>(places.begin(), places.end()), torch::kInt64), logits);
  });
  if (!out.defined()) out = torch::zeros({rows, task.outputs()}, torch::kFloat64);  // a process without a batch
  if (options.group) options.group->sum(out);                                       // zeros for the rows of others
  return out;
}

void read_label_weights(const Config& data, std::string& weighting, std::map<std::string, double>& given) {
  const char* doc =
      "weights of the labels in the loss: none, {label: weight}, or balanced: rows / (labels x rows of the label)";
  if (data.is_map("class_weights")) data.read("class_weights", given, doc);
  else data.read_choice("class_weights", weighting, {"none", "balanced"}, doc);
  const auto usable = [](const auto& weight) { return weight.second >= 0 && std::isfinite(weight.second); };
  data.require(std::all_of(given.begin(), given.end(), usable), "class_weights", "numbers of at least 0");
}

bool read_threshold(const Config& data, double& threshold) {
  const char* doc =
      "probability from which the positive one of two labels, or any of several, is predicted; auto: the best on dev, "
      "chosen after training";
  const bool find = data.text_at("threshold") == "auto";
  std::string automatic;
  if (find) data.read("threshold", automatic, doc);
  else data.read("threshold", threshold, doc);
  data.require(threshold > 0 && threshold < 1, "threshold", "auto or a number between 0 and 1");
  return find;
}

Scores TextTask::evaluate(LanguageModel& model, std::span<const Example> examples,
                          const EvaluationOptions& options) const {
  check(!examples.empty(), "nothing to evaluate: no labelled rows");
  return scores(all_logits(*this, model, examples, options), examples);
}

Assessment TextTask::assess(LanguageModel& model, std::span<const Example> examples,
                            const EvaluationOptions& options) const {
  check(!examples.empty(), "nothing to evaluate: no labelled rows");
  const torch::Tensor logits = all_logits(*this, model, examples, options).contiguous();
  Assessment out;
  out.scores = scores(logits, examples);
  for (const auto& example : examples) {
    out.rows.emplace_back();
    out.rows.back().source = example.source;
  }
  describe(logits, examples, out);
  return out;
}

std::vector<nlohmann::ordered_json> TextTask::predict(LanguageModel& model, std::span<const Example> examples,
                                                      const EvaluationOptions& options) const {
  std::vector<nlohmann::ordered_json> out;
  if (examples.empty()) return out;
  const torch::Tensor logits = all_logits(*this, model, examples, options);
  for (int64_t i = 0; i < logits.size(0); ++i) out.push_back(prediction(logits[i]));
  return out;
}

}  // namespace deeplora
