#include "tasks/decoder_task.h"

#include <torch/torch.h>

#include <algorithm>

#include "core/files.h"
#include "tasks/task_state.h"
#include "text/tokenizer_json.h"

namespace deeplora {
namespace {

bool is_known(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// Takes the middle out of `values`, behind the first `prefix`, until they fit into `room`.
bool shorten(std::vector<int64_t>& values, size_t prefix, size_t room) {
  if (values.size() <= room) return false;
  const size_t front = std::min(prefix, room);
  values.erase(values.begin() + static_cast<std::ptrdiff_t>(front),
               values.end() - static_cast<std::ptrdiff_t>(room - front));
  return true;
}

}  // namespace

DecoderTask::DecoderTask(std::string name, const Config& data, const Scoring& scoring)
    : LanguageTask(std::move(name), data, scoring) {
  data.read("prompt", prompt_, "column of what a completion follows");
  data.read("messages", messages_,
            "column of conversations: a list of {role, content}, or of ShareGPT's {from, value}");
  data.read("chat_template", chat_template_,
            cat("auto (the tokenizer's own), none, a file, a name of the tokenizer's own (tool_use), or one of ",
                join(ChatTemplate::names()), "; empty: auto for conversations, none for prompts"));
  const auto names = ChatTemplate::names();
  const bool mistyped = !chat_template_.empty() && chat_template_ != "auto" && chat_template_ != "none" &&
                        !is_known(names, chat_template_) && !nearest(chat_template_, names).empty();
  data.require(!mistyped || names_file(), "chat_template", cat("auto, none, a file or one of ", join(names)));
  data.read("chat_variables", chat_variables_,
            "what a chat template is given besides: [enable_thinking=false, ...]; values are JSON or texts");
  for (const auto& assignment : chat_variables_)
    data.require(assignment.find('=') != std::string::npos && assignment.front() != '=', "chat_variables",
                 "name=value");
  data.read("chat_date", chat_date_,
            "YYYY-MM-DD: today for templates that ask for it (strftime_now); empty: asking is an error");
  try {
    if (!chat_date_.empty()) jinja::clock_of(chat_date_);
  } catch (const Error& e) {
    data.mistake("chat_date", e.what());
  }
}

nlohmann::ordered_json DecoderTask::settings() const {
  auto out = LanguageTask::settings();
  out.update({{"prompt", prompt_},
              {"messages", messages_},
              {"chat_template", chat_template_},
              {"chat_variables", chat_variables_},
              {"chat_date", chat_date_}});
  return out;
}

void DecoderTask::fit(std::span<const Row> train, std::span<const Row>) {
  chat_ = std::any_of(train.begin(), train.end(), [&](const Row& row) { return holds_conversation(row); });
  add_end_of_turn();
}

nlohmann::ordered_json DecoderTask::state() const {
  nlohmann::ordered_json out{{"chat", chat_}};
  if (!template_text_.empty()) out["chat_template"] = template_text_;
  return out;
}

void DecoderTask::restore(const OrderedJsonFile& state) {
  chat_ = read_chat(state);
  template_text_ = state.value("chat_template", std::string());
  find_template();
  add_end_of_turn();
}

void DecoderTask::use_model(const TaskModel& model) {
  LanguageTask::use_model(model);
  positions_ = 0;
  for (const char* key : {"n_positions", "max_position_embeddings"})
    if (positions_ == 0) positions_ = model.config.value(key, int64_t{0});
  limit_length(positions_);
  find_template();
  add_end_of_turn();
}

Batch DecoderTask::collate(std::span<const Example* const> examples) const {
  size_t width = 1;
  for (const Example* example : examples) width = std::max(width, example->input_ids.size());
  const std::vector<int64_t> shape{static_cast<int64_t>(examples.size()), static_cast<int64_t>(width)};
  Batch batch;
  batch.input_ids = torch::full(shape, pad_id_, torch::kInt64);
  batch.attention_mask = torch::zeros(shape, torch::kInt64);
  batch.labels = torch::full(shape, kIgnored, torch::kInt64);
  auto ids = batch.input_ids.accessor<int64_t, 2>();
  auto mask = batch.attention_mask.accessor<int64_t, 2>();
  auto labels = batch.labels.accessor<int64_t, 2>();
  for (int64_t i = 0; i < shape[0]; ++i) {
    const Example& example = *examples[static_cast<size_t>(i)];
    for (size_t t = 0; t < example.input_ids.size(); ++t) {
      const auto at = static_cast<int64_t>(t);
      ids[i][at] = example.input_ids[t];
      mask[i][at] = 1;
      if (t > 0 && t < example.label_ids.size())
        labels[i][at - 1] = example.label_ids[t];  // what the token before predicts
    }
  }
  return batch;
}

int64_t DecoderTask::new_token_limit(const std::vector<int64_t>& prompt) const {
  if (positions_ == 0) return 0;
  const int64_t left = positions_ - static_cast<int64_t>(prompt.size());
  check(left > 0, "a prompt of ", prompt.size(), " tokens leaves no position to generate; the model has ", positions_,
        " (lower data.max_length)");
  return left;
}

/// Names of templates are words; anything else is a path.
bool DecoderTask::names_file() const {
  const auto names = ChatTemplate::names();
  return !is_known(names, chat_template_) && chat_template_.find_first_of("./") != std::string::npos;
}

bool DecoderTask::is_alpaca(const Row& row) const {
  return row.fields.contains("instruction") && !row.fields.contains(prompt_) && prompt_template_.empty();
}

bool DecoderTask::is_prompt(const Row& row) const {
  return row.fields.contains(prompt_) || !prompt_template_.empty() || is_alpaca(row);
}

bool DecoderTask::prompts_are_messages(const Row& row, bool labelled) const {
  if (chat_template_ == "none" || !is_prompt(row)) return false;
  return !chat_template_.empty() || (chat_ && !labelled);
}

std::string DecoderTask::plain_prompt(const Row& row) const {
  return is_alpaca(row) ? alpaca_prompt(alpaca_column(row, "instruction"), alpaca_column(row, "input"))
                        : prompt_text(row, prompt_, "prompt");
}

Conversation DecoderTask::question_of(const Row& row) const {
  if (is_conversation(row, messages_)) return read_conversation(row, messages_);
  Conversation conversation;
  if (is_alpaca(row)) conversation = alpaca_conversation(row);
  else conversation.messages.push_back(make_message("user", prompt_text(row, prompt_, "prompt")));
  conversation.tools = read_objects(row.fields, "tools", row.source);
  conversation.documents = read_objects(row.fields, "documents", row.source);
  return conversation;
}

const ChatTemplate& DecoderTask::template_for(const Row& row, const Conversation& conversation) const {
  tokenizer(row);
  const bool with_tools = tool_template_ && conversation.tools;
  check(with_tools || template_.has_value(), row.source, ": ", no_template_);
  return with_tools ? *tool_template_ : *template_;
}

void DecoderTask::find_template() {
  template_.reset();
  tool_template_.reset();
  if (chat_template_ == "none" || !model_.tokenizer) return;
  const TokenizerConfig settings = TokenizerConfig::read(model_.tokenizer_files);
  const jinja::Variables tokens = special_tokens_of(settings);
  const auto names = ChatTemplate::names();
  if (names_file()) {
    file_template(tokens);
  } else if (is_known(names, chat_template_)) {
    template_ = ChatTemplate::by_name(chat_template_, tokens);
  } else {
    own_template(settings, tokens);
  }
  if (template_) give_variables(*template_);
  if (tool_template_) give_variables(*tool_template_);
}

/// Of a file, or as the run kept it.
void DecoderTask::file_template(const jinja::Variables& tokens) {
  std::error_code ignored;
  no_template_ =
      cat("data.chat_template: ", chat_template_, " does not exist; templates by name: ", join(ChatTemplate::names()));
  if (template_text_.empty() && std::filesystem::exists(chat_template_, ignored))
    template_text_ = read_file(chat_template_, "data.chat_template");
  if (!template_text_.empty()) template_ = ChatTemplate::parse(template_text_, chat_template_, tokens);
}

/// The tokenizer's own template, and the one for rows with tools. A malformed one is an error of the rows that need
/// it.
void DecoderTask::own_template(const TokenizerConfig& settings, const jinja::Variables& tokens) {
  const bool named = !chat_template_.empty() && chat_template_ != "auto";
  const std::string wanted = named ? chat_template_ : "default";
  const auto own = chat_templates_of(model_.tokenizer_files, settings, {wanted, "tool_use"});
  std::vector<std::string> there;
  for (const auto& entry : own) there.push_back(entry.first);
  if (named)
    check(own.contains(wanted), "data.chat_template: '", wanted, "' is neither a file nor a template of the tokenizer",
          there.empty() ? "" : cat(" (", join(there), ")"), "; known names: ", join(ChatTemplate::names()));
  no_template_ = cat(there.empty() ? "the tokenizer brings no chat template"
                                   : cat("the tokenizer's chat templates (", join(there), ") have no default"),
                     "; choose one with data.chat_template: ", join(ChatTemplate::names()));
  try {
    if (own.contains(wanted)) template_ = ChatTemplate::parse(own.at(wanted), "the tokenizer's chat template", tokens);
    if (!named && own.contains("tool_use"))
      tool_template_ = ChatTemplate::parse(own.at("tool_use"), "the tokenizer's chat template tool_use", tokens);
  } catch (const Error& e) {
    no_template_ = e.what();
  }
}

void DecoderTask::give_variables(ChatTemplate& one) const {
  jinja::Variables variables;
  for (const auto& assignment : chat_variables_) variables.push_back(read_variable(assignment));
  one.set_variables(variables, chat_date_.empty() ? jinja::Clock() : jinja::clock_of(chat_date_));
}

/// A conversation's answers end with the template's mark, which not every model's configuration calls its end token.
void DecoderTask::add_end_of_turn() {
  if (!template_ || !model_.tokenizer || !(chat_ || !chat_template_.empty())) return;
  const std::string mark = template_->end_of_turn();
  if (mark.empty()) return;
  const auto ids = model_.tokenizer->tokenize(mark);
  auto& eos = generation_.options.eos;
  if (ids.size() == 1 && std::find(eos.begin(), eos.end(), ids[0]) == eos.end()) eos.push_back(ids[0]);
}

Sequence DecoderTask::sequence(const Row& row, const std::vector<Part>& parts) const {
  Sequence out;
  std::string text;
  std::vector<int64_t> before;
  for (const auto& part : parts) {
    text += part.text;
    std::vector<int64_t> now = tokenizer(row).tokenize(text);
    if (now.size() < before.size() || !std::equal(before.begin(), before.end(), now.begin())) {
      now = before;
      for (const int64_t id : tokenizer(row).tokenize(part.text)) now.push_back(id);
    }
    if (part.predicted) out.answer = before.size();
    out.labels.insert(out.labels.end(), now.size() - before.size(), kIgnored);
    if (part.predicted)
      std::copy(now.begin() + static_cast<std::ptrdiff_t>(before.size()), now.end(),
                out.labels.end() - static_cast<std::ptrdiff_t>(now.size() - before.size()));
    before = std::move(now);
  }
  out.ids = std::move(before);
  out.ids.insert(out.ids.begin(), text_prefix_.begin(), text_prefix_.end());
  out.labels.insert(out.labels.begin(), text_prefix_.size(), kIgnored);
  out.answer += text_prefix_.size();
  return out;
}

Sequence DecoderTask::answered(const Row& row, const std::string& prompt, const std::string& answer) const {
  Sequence out = sequence(row, {{prompt, false}, {answer, true}});
  if (answer.empty()) return out;
  check(eos_id_ >= 0, row.source,
        ": the model's files name no end token (eos_token_id), which a completion must end with");
  out.ids.push_back(eos_id_);
  out.labels.push_back(eos_id_);
  return out;
}

Sequence DecoderTask::learnt_of(const ChatTokens& tokens) {
  Sequence out{tokens.ids, std::vector<int64_t>(tokens.ids.size(), kIgnored), tokens.last_answer};
  for (size_t t = 0; t < tokens.ids.size(); ++t)
    if (tokens.learnt[t]) out.labels[t] = tokens.ids[t];
  return out;
}

Sequence DecoderTask::prompt_only(std::vector<int64_t> ids) {
  Sequence out{std::move(ids), {}, 0};
  out.labels.assign(out.ids.size(), kIgnored);
  out.answer = out.ids.size();
  return out;
}

void DecoderTask::fit_into(Sequence sequence, size_t prefix, Example& out, size_t reserved) const {
  const auto end = sequence.ids.begin() + static_cast<std::ptrdiff_t>(sequence.answer);
  std::vector<int64_t> prompt(sequence.ids.begin(), end), answer(end, sequence.ids.end());
  const auto most = static_cast<size_t>(max_length_);
  const size_t kept = std::min(std::max<size_t>(prefix, 1), prompt.size());
  if (!answer.empty()) fit_answer(answer, max_length_ - static_cast<int64_t>(kept), out, "the answer");
  const size_t room = most - std::max(answer.size(), std::min(reserved, most - std::min(kept, most)));
  out.prompt_ids = prompt;
  shorten(out.prompt_ids, prefix, most - 1);
  const auto tail = sequence.labels.begin() + static_cast<std::ptrdiff_t>(sequence.answer);
  std::vector<int64_t> labels(sequence.labels.begin(), tail);
  shorten(labels, prefix, room);
  if (shorten(prompt, prefix, room)) out.truncated = true;
  labels.insert(labels.end(), tail, tail + static_cast<std::ptrdiff_t>(answer.size()));
  out.input_ids = std::move(prompt);
  out.input_ids.insert(out.input_ids.end(), answer.begin(), answer.end());
  out.label_ids = std::move(labels);
  if (answer.empty()) std::fill(out.label_ids.begin(), out.label_ids.end(), kIgnored);
}

void DecoderTask::encode_question(const Row& row, Example& out) const {
  tokenizer(row);
  if (holds_conversation(row) || prompts_are_messages(row, false)) encode_question(row, question_of(row), out);
  else encode_question(row, plain_prompt(row), out);
}

void DecoderTask::encode_question(const Row& row, const std::string& prompt, Example& out) const {
  fit_into(prompt_only(sequence(row, {{prompt, false}}).ids), text_prefix_.size(), out);
}

void DecoderTask::encode_question(const Row& row, Conversation conversation, Example& out) const {
  const ChatTemplate& chosen = template_for(row, conversation);
  in_row(row, [&] {
    ChatTokens tokens =
        tokens_of_question(std::move(conversation), chosen, tokenizer(row), static_cast<size_t>(max_length_) - 1);
    fit_into(prompt_only(std::move(tokens.ids)), tokens.fixed, out);
    out.truncated = out.truncated || tokens.shortened;
  });
}

}  // namespace deeplora
