#include "tasks/id_limits.h"

#include <torch/torch.h>

#include <algorithm>

#include "model_files/torchscript_file.h"
#include "text/row_errors.h"

namespace deeplora {
namespace {

/// Rows of the model's tables; 0 where the model does not show them.
struct Tables {
  int64_t words = 0, types = 0, outputs = 0;
};

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

Tables tables_of(LanguageModel& model) {
  Tables out;
  for (const auto& site : model.sites()) {
    const int64_t rows = site.weight.size(0);
    if (site.role == "lm_head") out.outputs = rows;
    if (site.kind != SiteKind::embedding) continue;
    if (site.reads_ids) out.words = out.words == 0 ? rows : std::min(out.words, rows);
    if (has(site.path, "token_type_embeddings")) out.types = rows;
  }
  return out;
}

int64_t largest(const std::vector<int64_t>& ids) {
  return ids.empty() ? -1 : *std::max_element(ids.begin(), ids.end());
}

void add_beyond(RowErrors& errors, const Example& example, const std::vector<int64_t>& ids, int64_t rows,
                const char* column, const char* table) {
  const int64_t most = largest(ids);
  if (rows > 0 && most >= rows)
    errors.add(example.source, cat(column, ": ", most, " is beyond the model's ", table, " of ", rows));
}

/// The example, its further texts and its further windows: all that the model is given of it.
void add_inputs(const Example& example, std::vector<const Example*>& out) {
  out.push_back(&example);
  for (const auto* more : {&example.others, &example.windows})
    for (const Example& one : *more) add_inputs(one, out);
}

/// Every input that is beyond a table, one a row.
void add_row(RowErrors& errors, const Example& row, const Tables& tables) {
  std::vector<const Example*> inputs;
  add_inputs(row, inputs);
  const size_t before = errors.rows();
  for (const Example* example : inputs) {
    const bool prompt = largest(example->prompt_ids) > largest(example->input_ids);  // of a row that was cut
    add_beyond(errors, *example, prompt ? example->prompt_ids : example->input_ids, tables.words, "input_ids",
               "vocabulary");
    add_beyond(errors, *example, example->token_type_ids, tables.types, "token_type_ids", "token types");
    const bool of_vocabulary = example->words == nullptr;  // else they are tags
    if (of_vocabulary) add_beyond(errors, *example, example->label_ids, tables.outputs, "labels", "vocabulary");
    if (errors.rows() > before) return;
  }
}

using Member = std::vector<int64_t> Example::*;

/// A few tokens of the example, all with one value: a whole one may be longer than the model's positions.
Example reduced(const Example& example, Member member, int64_t value) {
  constexpr size_t kTokens = 7;
  Example out;
  out.tensors = example.tensors;
  out.labelled = !example.label_ids.empty();
  out.input_ids.assign(kTokens, example.input_ids.empty() ? 0 : example.input_ids.front());
  if (!example.token_type_ids.empty()) out.token_type_ids.assign(kTokens, 0);
  if (out.labelled) out.label_ids.assign(kTokens, kIgnored);
  (out.*member).assign(kTokens, value);
  if (example.second > 0) {  // a pair of sequences
    out.second = kTokens / 2;
    out.reference.assign(2, 0.0);
  }
  return out;
}

/// Why the model cannot run such an example; empty when it can.
std::string failure(const Task& task, LanguageModel& model, const Example& example, Member member,
                    torch::Device device) {
  const torch::NoGradGuard no_grad;
  const bool was_training = model.is_training();
  const Example* row[] = {&example};
  std::string reason;
  model.eval();
  try {
    const Batch batch = task.collate(row).to(device);
    if (member == &Example::label_ids) task.loss_of(model, batch);
    else model.forward(batch);
  } catch (const std::exception& e) {
    reason = short_reason(e);
  }
  model.train(was_training);
  return reason;
}

/// The largest value of a member must go through the model where the smallest does.
void try_largest(const Task& task, LanguageModel& model, std::span<const Example> examples, torch::Device device,
                 const char* column, Member member) {
  std::vector<const Example*> inputs;
  for (const Example& example : examples) add_inputs(example, inputs);
  const auto found = std::max_element(inputs.begin(), inputs.end(), [&](const Example* a, const Example* b) {
    return largest(a->*member) < largest(b->*member);
  });
  const Example* most = found == inputs.end() ? nullptr : *found;
  const int64_t value = most ? largest(most->*member) : 0;
  if (value <= 0) return;
  const std::string reason = failure(task, model, reduced(*most, member, value), member, device);
  if (reason.empty() || !failure(task, model, reduced(*most, member, 0), member, device).empty()) return;
  fail(most->source, ": the model cannot read this row's ", column, ", which go up to ", value, ": ", reason);
}

/// Rows whose whole numbers go beyond those of the training rows must go through the model.
void try_tensors(const Task& task, LanguageModel& model, std::span<const Example> examples, torch::Device device) {
  const auto inputs = task.tensor_inputs();
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (torch::isFloatingType(inputs[i].dtype)) continue;
    const Example *lowest = nullptr, *highest = nullptr;
    double least = inputs[i].least, most = inputs[i].most;
    for (const auto& example : examples) {
      const auto [low, high] = std::minmax_element(example.tensors[i].begin(), example.tensors[i].end());
      if (*low < least) least = *low, lowest = &example;
      if (*high > most) most = *high, highest = &example;
    }
    for (const auto& [example, value] : {std::pair(lowest, least), std::pair(highest, most)}) {
      const std::string reason = example ? failure(task, model, *example, nullptr, device) : "";
      if (!reason.empty())
        fail(example->source, ": the model cannot read this row's ", inputs[i].name, ", which holds ", value,
             " (in the training rows: ", inputs[i].least, " to ", inputs[i].most, "): ", reason);
    }
  }
}

}  // namespace

void check_ids(const Task& task, LanguageModel& model, std::span<const Example> examples, torch::Device device,
               std::string_view what) {
  Tables tables = tables_of(model);
  if (tables.outputs == 0) tables.outputs = tables.words;
  RowErrors errors;
  for (const auto& example : examples) add_row(errors, example, tables);
  if (!errors.empty()) fail(what, ": ", errors.text(), "; do rows and tokenizer belong to this model?");
  try {
    if (tables.words == 0) try_largest(task, model, examples, device, "input_ids", &Example::input_ids);
    if (tables.outputs == 0 && !task.tags_tokens())
      try_largest(task, model, examples, device, "labels", &Example::label_ids);
    try_tensors(task, model, examples, device);
    if (tables.types == 0) try_largest(task, model, examples, device, "token_type_ids", &Example::token_type_ids);
  } catch (const Error& e) {
    fail(what, ": ", e.what());
  }
}

}  // namespace deeplora
