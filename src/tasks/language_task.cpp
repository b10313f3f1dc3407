#include "tasks/language_task.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "core/log.h"
#include "core/long_work.h"
#include "lm/autocast.h"
#include "tasks/text_scores.h"
#include "tasks/text_stream.h"
#include "tasks/token_loss.h"

namespace deeplora {
namespace {

/// Of losses [n], scalar float32.
torch::Tensor sum_of(const torch::Tensor& losses) { return losses.sum(torch::kFloat64).to(torch::kFloat32); }

const std::vector<std::string> kMetrics{"loss",   "perplexity", "exact_match", "bleu",
                                        "rouge1", "rouge2",     "rougeL",      "chrf"};

bool is_loss(const std::string& metric) { return metric == "loss" || metric == "perplexity"; }

/// Positions of `lengths`, longest first, in groups of at most `rows` whose padded size is at most `cells`.
std::vector<std::vector<size_t>> groups_by_length(const std::vector<size_t>& lengths, int64_t rows, int64_t cells) {
  std::vector<size_t> order(lengths.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return lengths[a] > lengths[b]; });
  std::vector<std::vector<size_t>> out;
  int64_t longest = 0;
  for (const size_t i : order) {
    const bool full = out.empty() || static_cast<int64_t>(out.back().size()) >= rows ||
                      static_cast<int64_t>(out.back().size() + 1) * longest > cells;
    if (full) {
      out.emplace_back();
      longest = static_cast<int64_t>(lengths[i]);
    }
    out.back().push_back(i);
  }
  return out;
}

/// Rows of one forward pass, so that every process has some.
int64_t rows_at_once(const EvaluationOptions& o, size_t examples) {
  return o.group ? std::min(o.batch_size, o.group->share(static_cast<int64_t>(examples))) : o.batch_size;
}

/// Each list is filled by one process and empty in the others; afterwards everybody has all.
void exchange(ProcessGroup& group, std::vector<std::vector<int64_t>>& lists) {
  const torch::Tensor lengths = torch::zeros({static_cast<int64_t>(lists.size())}, torch::kInt64);
  auto length = lengths.accessor<int64_t, 1>();
  for (size_t i = 0; i < lists.size(); ++i) length[static_cast<int64_t>(i)] = static_cast<int64_t>(lists[i].size());
  group.sum(lengths);
  const torch::Tensor all = torch::zeros({std::max<int64_t>(1, lengths.sum().item<int64_t>())}, torch::kInt64);
  int64_t* at = all.mutable_data_ptr<int64_t>();
  for (size_t i = 0; i < lists.size(); ++i) {
    std::copy(lists[i].begin(), lists[i].end(), at);
    at += length[static_cast<int64_t>(i)];
  }
  group.sum(all);
  at = all.mutable_data_ptr<int64_t>();
  for (size_t i = 0; i < lists.size(); ++i) {
    lists[i].assign(at, at + length[static_cast<int64_t>(i)]);
    at += length[static_cast<int64_t>(i)];
  }
}

/// {column} in a prompt template.
size_t placeholder(const std::string& text, size_t from, std::string& column) {
  const size_t open = text.find('{', from);
  if (open == std::string::npos) return open;
  const size_t close = text.find('}', open);
  check(close != std::string::npos && close > open + 1, "data.prompt_template: a { without a column's name and }: '",
        text, "'");
  column = text.substr(open + 1, close - open - 1);
  return open;
}

}  // namespace

LanguageTask::Scoring LanguageTask::text_scoring() {
  return {kMetrics, "what chooses the best checkpoint; other than loss and perplexity it generates texts"};
}

LanguageTask::LanguageTask(std::string name, const Config& data, const Scoring& scoring)
    : name_(std::move(name)), metric_(scoring.metrics.front()), scores_texts_(scoring.texts) {
  data.read("max_length", max_length_, "longest input in tokens, special tokens included");
  data.require(max_length_ >= 2, "max_length", "a whole number from 2");
  data.read_choice("too_long", too_long_, {"error", "drop", "cut"},
                   "an answer that does not fit: stop, leave its row out, or cut it (said and counted)");
  data.read("prompt_template", prompt_template_,
            "prompt from several columns or with words around: 'Summarise: {text}'; empty: the column alone");
  data.read_choice("metric", metric_, scoring.metrics, scoring.metric_doc);
  if (scores_texts_) {
    data.read("references", references_column_, "column of further correct answers, a list of texts; rows may lack it");
    data.read_choice("generate", generate_, {"false", "test", "true"},
                     "score generated texts: never, for test and evaluate, at every evaluation");
  }
  const Config generation = data.section("generation");
  generation_ = GenerationConfig::read(generation);
}

nlohmann::ordered_json LanguageTask::settings() const {
  nlohmann::ordered_json out{{"max_length", max_length_},
                             {"too_long", too_long_},
                             {"prompt_template", prompt_template_},
                             {"metric", metric_},
                             {"generation", generation_.settings()}};
  if (scores_texts_) out.update({{"references", references_column_}, {"generate", generate_}});
  return out;
}

void LanguageTask::use_model(const TaskModel& model) {
  check(model.tensors.empty(), "data.task: ", name_, " reads tokens alone, but the model also takes ",
        join(model.tensors), "; name inputs that are token ids or a mask in model.inputs, e.g. model.inputs.input_ids=",
        model.tensors.empty() ? "" : model.tensors.front());
  check(model.has_decoder == takes_decoder(), "data.task: ", name_, " needs a ",
        takes_decoder()
            ? "sequence-to-sequence model (decoder_input_ids); for this causal or encoder model use causal-lm"
            : "causal language model; this one takes decoder_input_ids: use seq2seq");
  check(!model.gives_hidden, "data.task: ", name_,
        " needs logits of every token, but the model gives hidden states; export it with --task ", model_kind());
  model_ = model;
  generation_.use_model(model);
  eos_id_ = -1;
  if (model.tokenizer) {
    eos_id_ = model.tokenizer->special().eos;
    const auto bare = model.tokenizer->tokenize("a"), whole = model.tokenizer->encode("a", std::nullopt, 0).ids;
    const auto at = std::search(whole.begin(), whole.end(), bare.begin(), bare.end());
    if (at != whole.end()) {
      text_prefix_.assign(whole.begin(), at);
      text_suffix_.assign(at + static_cast<std::ptrdiff_t>(bare.size()), whole.end());
    }
  }
  if (eos_id_ < 0) eos_id_ = model_token(model, "eos_token_id");
}

void LanguageTask::limit_length(int64_t positions) {
  if (positions <= 0 || max_length_ <= positions) return;
  if (max_length_ != kDefaultLength)
    log_warning("data.max_length: ", max_length_, " is more than the model's ", positions, " positions; ", positions,
                " is used");
  max_length_ = positions;
}

const Tokenizer& LanguageTask::tokenizer(const Row& row) const {
  check(model_.tokenizer != nullptr, row.source, ": the model has no tokenizer, so rows must carry input_ids");
  return *model_.tokenizer;
}

std::vector<std::string> LanguageTask::texts_of(const Row& row, const std::string& column, const std::string& key) {
  const auto found = row.fields.find(column);
  std::vector<std::string> there;
  for (const auto& item : row.fields.items()) there.push_back(item.key());
  check(found != row.fields.end(), row.source, ": no column '", column, "' (data.", key, "); found ", join(there),
        did_you_mean(column, there));
  const auto one = [&](const nlohmann::ordered_json& value) {
    check(!value.is_null() && !value.is_structured(), row.source, ": ", column, ": expected a text, found ",
          value.dump().substr(0, 80));
    return value.is_string() ? value.get<std::string>() : value.dump();
  };
  std::vector<std::string> out;
  if (!found->is_array()) return {one(*found)};
  for (const auto& value : *found) out.push_back(one(value));
  check(!out.empty(), row.source, ": ", column, ": an empty list");
  return out;
}

std::string LanguageTask::text_of(const Row& row, const std::string& column, const std::string& key) {
  const auto texts = texts_of(row, column, key);
  check(texts.size() == 1, row.source, ": ", column, ": expected one text, found ", texts.size());
  return texts.front();
}

std::string LanguageTask::prompt_text(const Row& row, const std::string& column, const std::string& key) const {
  if (prompt_template_.empty()) return text_of(row, column, key);
  std::string out, name;
  size_t done = 0;
  for (size_t at; (at = placeholder(prompt_template_, done, name)) != std::string::npos; done = at + name.size() + 2)
    out += prompt_template_.substr(done, at - done) + text_of(row, name, "prompt_template");
  return out + prompt_template_.substr(done);
}

std::vector<std::string> LanguageTask::template_columns() const {
  std::vector<std::string> out;
  std::string name;
  size_t done = 0;
  for (size_t at; (at = placeholder(prompt_template_, done, name)) != std::string::npos; done = at + name.size() + 2)
    if (std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
  return out;
}

std::vector<std::string> LanguageTask::references_of(const Row& row, const std::string& answer_column,
                                                     const std::string& key) const {
  std::vector<std::string> out;
  const bool further = row.fields.contains(references_column_);
  if (!further || row.fields.contains(answer_column)) out = texts_of(row, answer_column, key);
  if (!further) return out;
  for (auto& text : texts_of(row, references_column_, "references"))
    if (std::find(out.begin(), out.end(), text) == out.end()) out.push_back(std::move(text));
  return out;
}

void LanguageTask::fit_answer(std::vector<int64_t>& answer, int64_t room, Example& example,
                              const std::string& what) const {
  const auto length = static_cast<int64_t>(answer.size());
  if (length <= room) return;
  check(too_long_ != "error", example.source, ": ", what, " has ", length, " tokens, but ", std::max<int64_t>(room, 0),
        " fit; raise the maximum, or set data.too_long: cut or drop");
  example.truncated = true;
  answer.resize(too_long_ == "cut" ? static_cast<size_t>(std::max<int64_t>(room, 0)) : 0);
}

RowIds LanguageTask::read_model_ids(const Row& row, bool with_labels) {
  RowIds ids = read_row_ids(row, with_labels);
  check(ids.attention_mask.empty(), row.source,
        ": attention_mask hides tokens between others; language models take masks that hide padding ",
        "at the ends alone");
  const bool types =
      std::any_of(ids.token_type_ids.begin(), ids.token_type_ids.end(), [](int64_t type) { return type != 0; });
  check(!types, row.source, ": token_type_ids: expected zeros, which language models go without");
  return ids;
}

std::vector<std::string> LanguageTask::remarks(const std::vector<Row>& rows, bool /*labelled*/) const {
  const std::string turned = turned_rows(rows);
  return turned.empty() ? std::vector<std::string>{} : std::vector{turned};
}

std::vector<Example> LanguageTask::arrange(std::vector<Example> examples, std::string_view what) const {
  std::vector<Example> kept;
  std::vector<std::string> empty;
  const size_t all = examples.size();
  for (auto& example : examples) {
    const auto& labels = example.label_ids;
    if (std::any_of(labels.begin(), labels.end(), [](int64_t id) { return id != kIgnored; }))
      kept.push_back(std::move(example));
    else empty.push_back(example.source);
  }
  if (!empty.empty())
    log_warning(what, ": ", empty.size(), " of ", all,
                " rows hold nothing to predict and are left out: ", join(empty, ", ", 5));
  check(!kept.empty(), what, ": no row holds anything to predict");
  return kept;
}

double LanguageTask::loss_count(const Batch& batch) const {
  return static_cast<double>((batch.labels != kIgnored).sum().item<int64_t>());
}

torch::Tensor LanguageTask::token_losses_of(const ModelOutput& output, const Batch& batch) const {
  check(output.logits.defined() && output.logits.dim() == 3, "task ", name_,
        " needs logits of every token [B, T, V] from the model");
  return token_losses(output.logits, batch.labels);
}

torch::Tensor LanguageTask::token_losses_of(LanguageModel& model, const Batch& batch) const {
  const torch::Tensor losses = model.token_losses(batch);
  return losses.defined() ? losses : token_losses_of(model.forward(batch), batch);
}

torch::Tensor LanguageTask::loss_sum(const ModelOutput& output, const Batch& batch) const {
  return sum_of(token_losses_of(output, batch));
}

torch::Tensor LanguageTask::loss_of(LanguageModel& model, const Batch& batch) const {
  return sum_of(token_losses_of(model, batch));
}

std::vector<std::vector<size_t>> LanguageTask::evaluation_batches(const std::vector<size_t>& lengths,
                                                                  const EvaluationOptions& options) const {
  constexpr int64_t kLogits = 1 << 27;  // half a GiB in float32
  const int64_t vocabulary = model_.tokenizer ? model_.tokenizer->vocabulary_size() : 1 << 15;
  return groups_by_length(lengths, rows_at_once(options, lengths.size()), kLogits / vocabulary);
}

std::pair<double, int64_t> LanguageTask::total_loss(LanguageModel& model, std::span<const Example> examples,
                                                    const EvaluationOptions& o) const {
  std::vector<size_t> lengths;
  for (const auto& example : examples) lengths.push_back(std::max(example.input_ids.size(), example.label_ids.size()));
  double sum = 0;
  int64_t count = 0;
  const auto groups = evaluation_batches(lengths, o);
  LongWork work("rows through the model", static_cast<int64_t>(examples.size()));
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto& group = groups[g];
    work.advance(static_cast<int64_t>(group.size()));
    if (!is_mine(o.group, g)) continue;
    std::vector<const Example*> rows;
    for (const size_t i : group) rows.push_back(&examples[i]);
    const Batch batch = collate(rows);
    count += static_cast<int64_t>(loss_count(batch));
    const Batch here = batch.to(o.device);
    sum += loss_of(model, here).item<double>();
  }
  if (o.group) {
    const torch::Tensor all = torch::tensor({sum, static_cast<double>(count)}, torch::kFloat64);
    o.group->sum(all);
    return {all[0].item<double>(), static_cast<int64_t>(all[1].item<double>())};
  }
  return {sum, count};
}

bool LanguageTask::generates(const EvaluationOptions& o) const {
  if (!scores_texts_) return false;
  return !is_loss(metric_) || generate_ == "true" || (generate_ == "test" && o.final);
}

Scores LanguageTask::evaluate(LanguageModel& model, std::span<const Example> examples,
                              const EvaluationOptions& options) const {
  return assess(model, examples, options).scores;
}

Assessment LanguageTask::assess(LanguageModel& model, std::span<const Example> examples,
                                const EvaluationOptions& options) const {
  const torch::NoGradGuard no_grad;
  check(!examples.empty(), "nothing to evaluate: no rows");
  const bool was_training = model.is_training();
  model.eval();
  Assessment out;
  Scores& all = out.scores;
  {
    const Autocast autocast(options.device, options.bf16);
    const auto [sum, count] = total_loss(model, examples, options);
    const double loss = count > 0 ? sum / static_cast<double>(count) : std::nan("");
    all.values = {{"loss", loss}, {"perplexity", std::exp(loss)}};
  }
  for (const auto& example : examples) {
    out.rows.emplace_back();
    out.rows.back().source = example.source;
  }
  if (generates(options)) add_text_scores(out, model, examples, options);
  if (options.row_losses) add_row_losses(out, model, examples, options);
  model.train(was_training);
  const auto headline =
      std::find_if(all.values.begin(), all.values.end(), [&](const auto& score) { return score.first == metric_; });
  std::rotate(all.values.begin(), headline, headline + 1);
  all.higher_is_better = !is_loss(metric_);
  return out;
}

void LanguageTask::add_row_losses(Assessment& out, LanguageModel& model, std::span<const Example> examples,
                                  EvaluationOptions options) const {
  options.group = nullptr;
  const Autocast autocast(options.device, options.bf16);
  for (size_t i = 0; i < examples.size(); ++i) {
    const auto [sum, count] = total_loss(model, examples.subspan(i, 1), options);
    if (count > 0) out.rows[i].loss = sum / static_cast<double>(count);
  }
}

void LanguageTask::add_text_scores(Assessment& out, LanguageModel& model, std::span<const Example> examples,
                                   const EvaluationOptions& options) const {
  check(model_.tokenizer != nullptr,
        "scores of generated texts need a tokenizer; set data.generate: false and data.metric: loss");
  std::map<std::vector<int64_t>, size_t> index;  // rows with the same prompt are one text with several references
  std::vector<const std::vector<int64_t>*> prompts;
  std::vector<std::vector<std::string>> references;
  for (const auto& example : examples) {
    const auto& prompt = prompt_of(example);
    check(!prompt.empty() && !example.references.empty(), example.source,
          ": nothing to generate: the row has no prompt with an answer; ",
          "set data.generate: false and data.metric: loss");
    const auto [place, fresh] = index.try_emplace(prompt, prompts.size());
    if (fresh) {
      prompts.push_back(&place->first);
      references.emplace_back();
    }
    auto& list = references[place->second];
    for (const auto& text : example.references)
      if (std::find(list.begin(), list.end(), text) == list.end()) list.push_back(text);
  }
  std::vector<std::string> texts;
  for (const auto& ids : generate_ids(model, prompts, options)) texts.push_back(text_of_ids(ids));
  for (size_t i = 0; i < examples.size(); ++i) {
    out.rows[i].label = examples[i].references.front();
    out.rows[i].prediction = texts[index.at(prompt_of(examples[i]))];
  }
  for (auto& score : text_scores(texts, references)) out.scores.values.push_back(std::move(score));
}

std::string LanguageTask::text_of_ids(std::span<const int64_t> ids) const {
  return before_stop(model_.tokenizer->decode(ids, /*skip_special=*/true), generation_.stop);
}

std::vector<std::vector<int64_t>> LanguageTask::generate_ids(LanguageModel& model,
                                                             const std::vector<const std::vector<int64_t>*>& prompts,
                                                             const EvaluationOptions& o) const {
  const Autocast autocast(o.device, o.bf16);
  DecodingSetup setup{.pad_id = pad_id_, .device = o.device};
  if (takes_decoder()) setup.decoder_start = model_token(model_, "decoder_start_token_id");
  if (model_.tokenizer && !generation_.stop.empty())
    setup.complete = [this](std::span<const int64_t> ids) {
      bool found = false;
      before_stop(model_.tokenizer->decode(ids, true), generation_.stop, &found);
      return found;
    };
  std::unique_ptr<TextStream> stream;
  if (o.on_text && model_.tokenizer && prompts.size() == 1) {
    stream = std::make_unique<TextStream>(*model_.tokenizer, generation_.stop, o.on_text);
    setup.on_token = [&stream](size_t, std::span<const int64_t> ids) { stream->update(ids); };
  }
  std::vector<size_t> lengths;
  for (const auto* prompt : prompts) lengths.push_back(prompt->size());
  std::vector<std::vector<int64_t>> out(prompts.size());
  const auto groups = groups_by_length(
      lengths, std::max<int64_t>(1, rows_at_once(o, prompts.size()) / generation_.options.beams), int64_t{1} << 16);
  std::optional<LongWork> work;
  if (!stream) work.emplace("generating texts", static_cast<int64_t>(prompts.size()));
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto& group = groups[g];
    if (!is_mine(o.group, g)) continue;
    std::vector<Prompt> batch;
    for (const size_t i : group) batch.push_back({*prompts[i], new_token_limit(*prompts[i]), i});
    auto texts = generate(model, batch, generation_.options, setup);
    for (size_t k = 0; k < group.size(); ++k) out[group[k]] = std::move(texts[k]);
    if (work) work->advance(static_cast<int64_t>(group.size()));
  }
  if (o.group) exchange(*o.group, out);
  if (stream) stream->finish(out.front());
  return out;
}

std::vector<nlohmann::ordered_json> LanguageTask::predict(LanguageModel& model, std::span<const Example> examples,
                                                          const EvaluationOptions& options) const {
  std::vector<const std::vector<int64_t>*> prompts;
  for (const auto& example : examples) {
    prompts.push_back(&prompt_of(example));
    check(!prompts.back()->empty(), example.source, ": an empty prompt");
  }
  std::vector<nlohmann::ordered_json> out;
  for (const auto& ids : generate_ids(model, prompts, options)) {
    if (model_.tokenizer) out.push_back({{"text", text_of_ids(ids)}});
    else out.push_back({{"ids", ids}});
  }
  return out;
}

}  // namespace deeplora
