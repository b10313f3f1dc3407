#include "tasks/text_task.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lm/autocast.h"

namespace deeplora {
namespace {

std::vector<int64_t> integers(const Row& row, const std::string& column) {
  const auto& value = row.fields.at(column);
  check(value.is_array(), row.source, ": ", column, ": expected a list of whole numbers, found ", value.dump());
  std::vector<int64_t> out;
  for (const auto& item : value) {
    check(item.is_number_integer() && item.get<int64_t>() >= 0, row.source, ": ", column, ": expected whole numbers from 0, found ", item.dump());
    out.push_back(item.get<int64_t>());
  }
  return out;
}

/// A row that brings its own ids, cut to max_length.
Example from_ids(const Row& row, int64_t max_length) {
  Example example;
  example.input_ids = integers(row, "input_ids");
  check(!example.input_ids.empty(), row.source, ": input_ids: an empty list");
  for (auto [column, values] : {std::pair{"attention_mask", &example.attention_mask}, std::pair{"token_type_ids", &example.token_type_ids}}) {
    if (!row.fields.contains(column)) continue;
    *values = integers(row, column);
    check(values->size() == example.input_ids.size(), row.source, ": ", column, ": expected ", example.input_ids.size(),
          " values as in input_ids, found ", values->size());
  }
  if (max_length > 0 && static_cast<int64_t>(example.input_ids.size()) > max_length) {
    example.truncated = true;
    for (auto* values : {&example.input_ids, &example.attention_mask, &example.token_type_ids})
      if (!values->empty()) values->resize(static_cast<size_t>(max_length));
  }
  return example;
}

}  // namespace

TextTask::TextTask(std::string name, const Config& data, TextColumns defaults) : name_(std::move(name)), columns_(std::move(defaults)) {
  data.read("text", columns_.text, "column of the text: name, or 0-based index");
  data.read("text_pair", columns_.text_pair, "column of the second text of a pair; empty: single texts");
  data.read("label", columns_.label, "column of the label");
  data.read("max_length", max_length_, "longest input in tokens, special tokens included; longer texts are cut and counted");
  data.require(max_length_ >= 3, "max_length", "at least 3 tokens");
}

nlohmann::ordered_json TextTask::settings() const {
  return {{"text", columns_.text}, {"text_pair", columns_.text_pair}, {"label", columns_.label}, {"max_length", max_length_}};
}

std::vector<std::string> TextTask::columns(bool labelled) const {
  std::vector<std::string> out{columns_.text};
  if (!columns_.text_pair.empty()) out.push_back(columns_.text_pair);
  if (labelled) out.push_back(columns_.label);
  return out;
}

std::string TextTask::cell(const Row& row, const std::string& column) {
  const auto found = row.fields.find(column);
  if (found == row.fields.end()) {
    std::vector<std::string> there;
    for (const auto& item : row.fields.items()) there.push_back(item.key());
    fail(row.source, ": no column '", column, "'", did_you_mean(column, there), "; columns: ", join(there));
  }
  if (found->is_string()) return found->get<std::string>();
  check(!found->is_null() && !found->is_structured(), row.source, ": ", column, ": expected a text, found ", found->dump());
  return found->dump();
}

Example TextTask::encode(const Row& row, const Tokenizer* tokenizer, bool labelled) const {
  Example example;
  if (row.fields.contains("input_ids")) {
    example = from_ids(row, max_length_);
  } else {
    check(tokenizer != nullptr, row.source, ": the model has no tokenizer, so rows must carry input_ids");
    const std::string text = cell(row, columns_.text);
    std::optional<std::string> pair;
    if (!columns_.text_pair.empty()) pair = cell(row, columns_.text_pair);
    try {
      Encoding encoding = tokenizer->encode(text, pair ? std::optional<std::string_view>(*pair) : std::nullopt, max_length_);
      example.input_ids = std::move(encoding.ids);
      example.token_type_ids = std::move(encoding.type_ids);
      example.truncated = encoding.truncated;
    } catch (const Error& e) {
      fail(row.source, ": ", e.what());
    }
  }
  example.source = row.source;
  if (labelled) {
    read_label(row, example);
    example.labelled = true;
  }
  return example;
}

Batch TextTask::collate(std::span<const Example* const> examples) const {
  size_t tokens = 1;
  for (const Example* example : examples) tokens = std::max(tokens, example->input_ids.size());
  const auto rows = static_cast<int64_t>(examples.size()), width = static_cast<int64_t>(tokens);
  Batch batch;
  batch.input_ids = torch::full({rows, width}, pad_id_, torch::kInt64);
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
  if (std::all_of(examples.begin(), examples.end(), [](const Example* e) { return e->labelled; })) batch.labels = label_tensor(examples);
  return batch;
}

torch::Tensor all_logits(const Task& task, LanguageModel& model, std::span<const Example> examples, const EvaluationOptions& options) {
  torch::NoGradGuard no_grad;
  const Autocast autocast(options.device, options.bf16);
  const bool was_training = model.is_training();
  model.eval();
  std::vector<size_t> order(examples.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return examples[a].input_ids.size() > examples[b].input_ids.size(); });
  const auto rows = static_cast<size_t>(options.group ? std::min(options.batch_size, options.group->share(static_cast<int64_t>(order.size()))) : options.batch_size);
  std::vector<torch::Tensor> parts;
  for (size_t start = 0; start < order.size(); start += rows) {
    std::vector<const Example*> chosen;
    for (size_t i = start; i < std::min(order.size(), start + rows); ++i) chosen.push_back(&examples[order[i]]);
    if (!is_mine(options.group, start / rows)) {
      parts.push_back(torch::zeros({static_cast<int64_t>(chosen.size()), task.outputs()}, torch::kFloat64));
      continue;
    }
    const ModelOutput out = model.forward(task.collate(chosen).to(options.device));
    parts.push_back(out.logits.to(torch::kCPU, torch::kFloat64));
  }
  model.train(was_training);
  const torch::Tensor sorted = torch::cat(parts);
  if (options.group) options.group->sum(sorted);  // zeros for the rows of others
  const torch::Tensor index = torch::tensor(std::vector<int64_t>(order.begin(), order.end()), torch::kInt64);
  return torch::empty_like(sorted).index_copy_(0, index, sorted);
}

Scores TextTask::evaluate(LanguageModel& model, std::span<const Example> examples, const EvaluationOptions& options) const {
  check(!examples.empty(), "nothing to evaluate: no labelled rows");
  return scores(all_logits(*this, model, examples, options), examples);
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
