#include "tasks/text_task.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "tasks/batches.h"
#include "tasks/label_names.h"
#include "tasks/row_ids.h"
#include "text/row_errors.h"

namespace deeplora {
namespace {

/// A row that brings its own ids, cut to max_length.
Example from_ids(const Row& row, int64_t max_length) {
  RowIds ids = read_row_ids(row, false);
  Example example;
  example.input_ids = std::move(ids.input_ids);
  example.attention_mask = std::move(ids.attention_mask);
  example.token_type_ids = std::move(ids.token_type_ids);
  if (max_length > 0 && static_cast<int64_t>(example.input_ids.size()) > max_length) {
    example.truncated = true;
    for (auto* values : {&example.input_ids, &example.attention_mask, &example.token_type_ids})
      if (!values->empty()) values->resize(static_cast<size_t>(max_length));
  }
  return example;
}

/// Rows of which something is said, by their number and the first of them.
struct Remark {
  size_t count = 0;
  std::string first;

  void add(const Row& row) {
    if (count++ == 0) first = row.source;
  }
};

}  // namespace

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

std::string TextTask::cell(const Row& row, const std::string& column) {
  const auto found = row.fields.find(column);
  if (found == row.fields.end()) {
    std::vector<std::string> there;
    for (const auto& item : row.fields.items()) there.push_back(item.key());
    fail(row.source, ": no column '", column, "'", did_you_mean(column, there), "; columns: ", join(there));
  }
  if (found->is_string()) return found->get<std::string>();
  check(!found->is_null() && !found->is_structured(), row.source, ": ", column, ": expected a text, found ",
        found->dump());
  return found->dump();
}

void TextTask::encode_text(const Row& row, const Tokenizer* tokenizer, Example& example) const {
  if (row.fields.contains("input_ids")) {
    example = from_ids(row, max_length_);
  } else {
    check(tokenizer != nullptr, row.source, ": the model has no tokenizer, so rows must carry input_ids");
    const std::string text = cell(row, columns_.text);
    std::optional<std::string> pair;
    if (!columns_.text_pair.empty()) pair = cell(row, columns_.text_pair);
    try {
      Encoding encoding =
          tokenizer->encode(text, pair ? std::optional<std::string_view>(*pair) : std::nullopt, max_length_);
      example.input_ids = std::move(encoding.ids);
      example.token_type_ids = std::move(encoding.type_ids);
      example.truncated = encoding.truncated;
      if (encoding.truncated) {
        const auto whole =
            tokenizer->encode(text, pair ? std::optional<std::string_view>(*pair) : std::nullopt, 0).ids.size();
        example.tokens_cut = static_cast<int64_t>(whole - example.input_ids.size());
      }
    } catch (const Error& e) {
      fail(row.source, ": ", e.what());
    }
    check(!example.input_ids.empty(), row.source, ": ", columns_.text,
          ": an empty text, and the tokenizer adds no token of its own; the model needs at least one token (leave the "
          "row out)");
  }
}

Example TextTask::encode(const Row& row, const Tokenizer* tokenizer, bool labelled) const {
  Example example;
  if (reads_tokens()) encode_text(row, tokenizer, example);
  if (tensors_.any()) example.tensors = tensors_.read(row);
  example.source = row.source;
  if (labelled) {
    read_label(row, example);
    example.labelled = true;
  }
  return example;
}

std::vector<std::string> TextTask::remarks(const std::vector<Row>& rows, bool labelled) const {
  Remark empty, blanks;
  const auto text_of = [](const Row& row, const std::string& column) -> const std::string* {
    const auto found = row.fields.find(column);
    return found != row.fields.end() && found->is_string() ? &found->get_ref<const std::string&>() : nullptr;
  };
  for (const auto& row : rows) {
    const bool has_ids = !reads_tokens() || row.fields.contains("input_ids");
    for (const auto& column : {columns_.text, columns_.text_pair})
      if (const std::string* text = has_ids || column.empty() ? nullptr : text_of(row, column);
          text && without_blanks(*text).empty()) {
        empty.add(row);
        break;
      }
    const std::string* label = labelled ? text_of(row, columns_.label) : nullptr;
    if (label && without_blanks(*label).size() != label->size()) blanks.add(row);
  }
  std::vector<std::string> out;
  const auto say = [&](const Remark& remark, const std::string& what) {
    if (remark.count > 0)
      out.push_back(
          cat(with_commas(remark.count), " of ", with_commas(rows.size()), what, ", the first at ", remark.first));
  };
  say(empty, " rows have an empty text");
  say(blanks, cat(" values of column ", columns_.label, " had blanks at an end, which are not part of them"));
  if (auto turned = turned_rows(rows); !turned.empty()) out.push_back(std::move(turned));
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

void add_tokens(std::span<const Example* const> examples, int64_t pad_id, Batch& batch) {
  size_t tokens = 1;
  for (const Example* example : examples) tokens = std::max(tokens, example->input_ids.size());
  const auto rows = static_cast<int64_t>(examples.size()), width = static_cast<int64_t>(tokens);
  batch.input_ids = torch::full({rows, width}, pad_id, torch::kInt64);
  batch.attention_mask = torch::zeros({rows, width}, torch::kInt64);
  batch.token_type_ids = torch::zeros({rows, width}, torch::kInt64);
  auto ids = batch.input_ids.accessor<int64_t, 2>();
  auto mask = batch.attention_mask.accessor<int64_t, 2>();
  auto types = batch.token_type_ids.accessor<int64_t, 2>();
  for (int64_t i = 0; i < rows; ++i) {
    const Example& example = *examples[static_cast<size_t>(i)];
    for (size_t t = 0; t < example.input_ids.size(); ++t) {
      const auto at = static_cast<int64_t>(t);
      ids[i][at] = example.input_ids[t];
      mask[i][at] = example.attention_mask.empty() ? 1 : example.attention_mask[t];
      types[i][at] = example.token_type_ids.empty() ? 0 : example.token_type_ids[t];
    }
  }
}

Batch TextTask::collate(std::span<const Example* const> examples) const {
  Batch batch;
  if (reads_tokens()) add_tokens(examples, pad_id_, batch);
  batch.tensors = tensors_.collate(examples);
  if (std::all_of(examples.begin(), examples.end(), [](const Example* e) { return e->labelled; }))
    batch.labels = label_tensor(examples);
  return batch;
}

torch::Tensor all_logits(const Task& task, LanguageModel& model, std::span<const Example> examples,
                         const EvaluationOptions& options) {
  std::vector<const Example*> all;
  for (const auto& example : examples) all.push_back(&example);
  torch::Tensor out = torch::zeros({static_cast<int64_t>(all.size()), task.outputs()}, torch::kFloat64);
  each_batch(task, model, all, options, [&](std::span<const size_t> places, const torch::Tensor& logits) {
    out.index_copy_(0, torch::tensor(std::vector<int64_t>(places.begin(), places.end()), torch::kInt64), logits);
  });
  if (options.group) options.group->sum(out);  // zeros for the rows of others
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
