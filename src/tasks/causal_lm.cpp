#include <torch/torch.h>

#include <algorithm>

#include "core/files.h"
#include "core/log.h"
#include "tasks/chat_rows.h"
#include "tasks/language_task.h"
#include "tasks/task_state.h"
#include "tasks/token_loss.h"
#include "text/tokenizer_json.h"

namespace deeplora {
namespace {

/// Ids, and at every place the token to predict there (the same id) or kIgnored.
struct Sequence {
  std::vector<int64_t> ids, labels;
  size_t answer = 0;  ///< where the last predicted stretch begins
};

/// Language modelling from left to right: plain text, prompt and completion, or conversations; the kind of each row is
/// told by its columns.
class CausalLm : public LanguageTask {
 public:
  explicit CausalLm(const Config& data) : LanguageTask("causal-lm", data) {
    data.read("text", text_, "column of plain text to model");
    data.read("prompt", prompt_, "column of what a completion follows");
    data.read("completion", completion_, "column of what is learnt: the loss is on it alone");
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
    data.read("pack", pack_,
              "plain text: documents one after the other in blocks of max_length; false: one row per example");
  }

  nlohmann::ordered_json settings() const override {
    auto out = LanguageTask::settings();
    out.update({{"text", text_},
                {"prompt", prompt_},
                {"completion", completion_},
                {"messages", messages_},
                {"chat_template", chat_template_},
                {"chat_variables", chat_variables_},
                {"chat_date", chat_date_},
                {"pack", pack_}});
    return out;
  }

  /// Columns with names of their own are wanted; else each row tells by its columns what it is.
  std::vector<std::string> columns(bool labelled) const override {
    const bool named_text = text_ != "text", named_prompt = prompt_ != "prompt";
    if (!prompt_template_.empty()) {
      std::vector<std::string> out = template_columns();
      if (labelled) out.push_back(completion_);
      return out;
    }
    if (!labelled) return {named_text && !named_prompt ? text_ : prompt_};
    if (named_text == named_prompt) return {};
    return named_text ? std::vector<std::string>{text_} : std::vector<std::string>{prompt_, completion_};
  }

  void table_options(TableOptions& options, bool labelled) const override {
    options.wanted = columns(labelled);
    options.known = {text_, prompt_, completion_, messages_, kShareGptColumn, "instruction", "output"};
    options.stand_ins = {"input_ids", messages_, kShareGptColumn, "instruction", references_column_};
    options.keys = {{text_, "data.text"}, {prompt_, "data.prompt"}, {completion_, "data.completion"}};
  }

  /// Lines of plain text that follow each other without a blank line are one document.
  std::vector<Row> documents(std::vector<Row> rows) const override {
    std::vector<Row> out;
    bool open = false;
    for (auto& row : rows) {
      if (!row.is_line) {
        out.push_back(std::move(row));
        continue;
      }
      auto& text = row.fields["text"].get_ref<std::string&>();
      const bool blank = text.find_first_not_of(" \t\r") == std::string::npos;
      if (!blank && pack_ && open) out.back().fields["text"].get_ref<std::string&>() += "\n" + text;
      else if (!blank) out.push_back(std::move(row));
      open = !blank;
    }
    for (auto& row : out)
      if (row.is_line && text_ != "text") row.fields[text_] = row.fields["text"];
    return out;
  }

  std::string input_of(const Row& row) const override {
    if (is_conversation(row, messages_) || !is_prompt(row) || row.fields.contains("input_ids"))
      return row.fields.dump();
    return is_alpaca(row) ? alpaca_prompt(alpaca_column(row, "instruction"), alpaca_column(row, "input"))
                          : prompt_text(row, prompt_, "prompt");
  }

  void fit(std::span<const Row> train, std::span<const Row>) override {
    chat_ = std::any_of(train.begin(), train.end(), [&](const Row& row) { return is_conversation(row, messages_); });
    add_end_of_turn();
  }
  /// A template that came from a file is kept, so that the run needs the file no more.
  nlohmann::ordered_json state() const override {
    nlohmann::ordered_json out{{"chat", chat_}};
    if (!template_text_.empty()) out["chat_template"] = template_text_;
    return out;
  }
  void restore(const OrderedJsonFile& state) override {
    chat_ = read_chat(state);
    template_text_ = state.value("chat_template", std::string());
    find_template();
    add_end_of_turn();
  }

  void use_model(const TaskModel& model) override {
    LanguageTask::use_model(model);
    positions_ = 0;
    for (const char* key : {"n_positions", "max_position_embeddings"})
      if (positions_ == 0) positions_ = model.config.value(key, int64_t{0});
    limit_length(positions_);
    find_template();
    add_end_of_turn();
  }

  Example encode(const Row& row, const Tokenizer* /*the model's*/, bool labelled) const override {
    Example out;
    out.source = row.source;
    out.labelled = labelled;
    if (row.fields.contains("input_ids")) encode_ids(row, out);
    else if (uses_chat(row, labelled)) encode_chat(row, out);
    else if (is_prompt(row)) encode_prompt(row, out);
    else encode_text(row, out);
    return out;
  }

  std::vector<Example> arrange(std::vector<Example> examples, std::string_view what) const override {
    auto kept = LanguageTask::arrange(std::move(examples), what);
    const bool joined = std::all_of(kept.begin(), kept.end(), [](const Example& e) { return e.joined; });
    return pack_ && joined ? packed(kept) : kept;
  }

  Batch collate(std::span<const Example* const> examples) const override {
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

 protected:
  const std::vector<int64_t>& prompt_of(const Example& example) const override { return example.prompt_ids; }
  bool takes_decoder() const override { return false; }
  int64_t new_token_limit(const std::vector<int64_t>& prompt) const override {
    if (positions_ == 0) return 0;
    const int64_t left = positions_ - static_cast<int64_t>(prompt.size());
    check(left > 0, "a prompt of ", prompt.size(), " tokens leaves no position to generate; the model has ", positions_,
          " (lower data.max_length)");
    return left;
  }

 private:
  static bool is_known(const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  }
  /// Names of templates are words; anything else is a path.
  bool names_file() const {
    const auto names = ChatTemplate::names();
    return !is_known(names, chat_template_) && chat_template_.find_first_of("./") != std::string::npos;
  }
  bool is_alpaca(const Row& row) const {
    return row.fields.contains("instruction") && !row.fields.contains(prompt_) && prompt_template_.empty();
  }
  bool is_prompt(const Row& row) const {
    return row.fields.contains(prompt_) || !prompt_template_.empty() || is_alpaca(row);
  }

  bool uses_chat(const Row& row, bool labelled) const {
    if (is_conversation(row, messages_)) return true;
    if (chat_template_ == "none" || !is_prompt(row)) return false;
    return !chat_template_.empty() || (chat_ && !labelled);
  }

  void find_template() {
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
  void file_template(const jinja::Variables& tokens) {
    std::error_code ignored;
    no_template_ = cat("data.chat_template: ", chat_template_,
                       " does not exist; templates by name: ", join(ChatTemplate::names()));
    if (template_text_.empty() && std::filesystem::exists(chat_template_, ignored))
      template_text_ = read_file(chat_template_, "data.chat_template");
    if (!template_text_.empty()) template_ = ChatTemplate::parse(template_text_, chat_template_, tokens);
  }

  /// The tokenizer's own template, and the one for rows with tools. A malformed one is an error of the rows that need
  /// it.
  void own_template(const TokenizerConfig& settings, const jinja::Variables& tokens) {
    const bool named = !chat_template_.empty() && chat_template_ != "auto";
    const std::string wanted = named ? chat_template_ : "default";
    const auto own = chat_templates_of(model_.tokenizer_files, settings, {wanted, "tool_use"});
    std::vector<std::string> there;
    for (const auto& entry : own) there.push_back(entry.first);
    if (named)
      check(own.contains(wanted), "data.chat_template: '", wanted,
            "' is neither a file nor a template of the tokenizer", there.empty() ? "" : cat(" (", join(there), ")"),
            "; known names: ", join(ChatTemplate::names()));
    no_template_ = cat(there.empty() ? "the tokenizer brings no chat template"
                                     : cat("the tokenizer's chat templates (", join(there), ") have no default"),
                       "; choose one with data.chat_template: ", join(ChatTemplate::names()));
    try {
      if (own.contains(wanted))
        template_ = ChatTemplate::parse(own.at(wanted), "the tokenizer's chat template", tokens);
      if (!named && own.contains("tool_use"))
        tool_template_ = ChatTemplate::parse(own.at("tool_use"), "the tokenizer's chat template tool_use", tokens);
    } catch (const Error& e) {
      no_template_ = e.what();
    }
  }

  void give_variables(ChatTemplate& one) const {
    jinja::Variables variables;
    for (const auto& assignment : chat_variables_) variables.push_back(read_variable(assignment));
    one.set_variables(variables, chat_date_.empty() ? jinja::Clock() : jinja::clock_of(chat_date_));
  }

  /// A conversation's answers end with the template's mark, which not every model's configuration calls its end token.
  void add_end_of_turn() {
    if (!template_ || !model_.tokenizer || !(chat_ || !chat_template_.empty())) return;
    const std::string mark = template_->end_of_turn();
    if (mark.empty()) return;
    const auto ids = model_.tokenizer->tokenize(mark);
    auto& eos = generation_.options.eos;
    if (ids.size() == 1 && std::find(eos.begin(), eos.end(), ids[0]) == eos.end()) eos.push_back(ids[0]);
  }

  /// A prompt and what follows it.
  struct ChatPart {
    std::string text;
    bool predicted = false;
  };

  /// Tokens of parts one after the other: those of the whole text so far where they begin with the ones before, else
  /// each part's own, so that the tokens of a prompt are the same with and without its answer.
  Sequence sequence(const Row& row, const std::vector<ChatPart>& parts, bool with_prefix) const {
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
    if (with_prefix) {
      out.ids.insert(out.ids.begin(), text_prefix_.begin(), text_prefix_.end());
      out.labels.insert(out.labels.begin(), text_prefix_.size(), kIgnored);
      out.answer += text_prefix_.size();
    }
    return out;
  }

  /// The sequence within max_length. A prompt loses its beginning (special tokens in front apart); an answer that does
  /// not fit goes by data.too_long.
  void fit_into(Sequence sequence, size_t prefix, Example& out) const {
    std::vector<int64_t> prompt(sequence.ids.begin(),
                                sequence.ids.begin() + static_cast<std::ptrdiff_t>(sequence.answer));
    std::vector<int64_t> answer(sequence.ids.begin() + static_cast<std::ptrdiff_t>(sequence.answer),
                                sequence.ids.end());
    const auto most = static_cast<size_t>(max_length_);
    const size_t kept = std::max<size_t>(prefix, 1);
    if (!answer.empty())
      fit_answer(answer, max_length_ - static_cast<int64_t>(std::min(kept, prompt.size())), out, "the answer");
    const auto shorten = [&](std::vector<int64_t>& values, size_t room) {
      if (values.size() <= room) return false;
      const size_t front = std::min(prefix, room);
      values.erase(values.begin() + static_cast<std::ptrdiff_t>(front),
                   values.end() - static_cast<std::ptrdiff_t>(room - front));
      return true;
    };
    out.prompt_ids = prompt;
    shorten(out.prompt_ids, most - 1);
    std::vector<int64_t> labels(sequence.labels.begin(),
                                sequence.labels.begin() + static_cast<std::ptrdiff_t>(sequence.answer));
    shorten(labels, most - answer.size());
    if (shorten(prompt, most - answer.size())) out.truncated = true;
    const auto tail = sequence.labels.begin() + static_cast<std::ptrdiff_t>(sequence.answer);
    labels.insert(labels.end(), tail, tail + static_cast<std::ptrdiff_t>(answer.size()));
    out.input_ids = std::move(prompt);
    out.input_ids.insert(out.input_ids.end(), answer.begin(), answer.end());
    out.label_ids = std::move(labels);
    if (answer.empty()) std::fill(out.label_ids.begin(), out.label_ids.end(), kIgnored);
  }

  /// A row without messages is a question of the user, and its answer's column the answer.
  Conversation conversation_of(const Row& row, Example& out) const {
    if (is_conversation(row, messages_)) return read_conversation(row, messages_);
    Conversation conversation;
    if (is_alpaca(row)) conversation = alpaca_conversation(row);
    else conversation.messages.push_back(make_message("user", prompt_text(row, prompt_, "prompt")));
    conversation.tools = read_objects(row.fields, "tools", row.source);
    conversation.documents = read_objects(row.fields, "documents", row.source);
    if (!out.labelled) return conversation;
    out.references = answers_of(row);
    conversation.messages.push_back(make_message("assistant", out.references.front()));
    return conversation;
  }

  std::vector<std::string> answers_of(const Row& row) const {
    const bool output = is_alpaca(row) && !row.fields.contains(completion_);
    return references_of(row, output ? "output" : completion_, output ? "output" : "completion");
  }

  void encode_chat(const Row& row, Example& out) const {
    tokenizer(row);
    Conversation conversation = conversation_of(row, out);
    const bool with_tools = tool_template_ && conversation.tools;
    check(with_tools || template_.has_value(), row.source, ": ", no_template_);
    const ChatTemplate& chosen = with_tools ? *tool_template_ : *template_;
    try {
      if (out.labelled) encode_answers(row, chosen, conversation, out);
      else encode_question(row, chosen, std::move(conversation), out);
    } catch (const Error& e) {
      const std::string message = e.what();
      fail(message.starts_with(row.source) ? "" : row.source + ": ", message);
    }
  }

  void encode_question(const Row& row, const ChatTemplate& chosen, Conversation conversation, Example& out) const {
    ChatTokens tokens =
        tokens_of_question(std::move(conversation), chosen, tokenizer(row), static_cast<size_t>(max_length_) - 1);
    std::vector<int64_t> labels(tokens.ids.size(), kIgnored);
    fit_into(prompt_only({std::move(tokens.ids), std::move(labels), 0}), tokens.fixed, out);
    out.truncated = out.truncated || tokens.shortened;
  }

  void encode_answers(const Row& row, const ChatTemplate& chosen, const Conversation& conversation,
                      Example& out) const {
    ChatTokens tokens = tokens_of_answers(conversation, chosen, tokenizer(row), static_cast<size_t>(max_length_));
    if (out.references.empty())
      for (const auto& message : conversation.messages)
        if (message.role == "assistant") out.references = {message.text};
    Sequence whole{tokens.ids, std::vector<int64_t>(tokens.ids.size(), kIgnored), tokens.last_answer};
    for (size_t t = 0; t < tokens.ids.size(); ++t)
      if (tokens.learnt[t]) whole.labels[t] = tokens.ids[t];
    Example prompt;
    std::vector<int64_t> labels(tokens.prompt.size(), kIgnored);
    fit_into(prompt_only({std::move(tokens.prompt), std::move(labels), 0}), tokens.fixed, prompt);
    fit_into(std::move(whole), tokens.fixed, out);
    out.prompt_ids = std::move(prompt.prompt_ids);
    out.truncated = out.truncated || tokens.shortened;
  }

  static Sequence prompt_only(Sequence sequence) {
    sequence.answer = sequence.ids.size();
    return sequence;
  }

  void encode_prompt(const Row& row, Example& out) const {
    std::vector<ChatPart> parts{{is_alpaca(row)
                                     ? alpaca_prompt(alpaca_column(row, "instruction"), alpaca_column(row, "input"))
                                     : prompt_text(row, prompt_, "prompt"),
                                 false}};
    if (!out.labelled) {
      fit_into(prompt_only(sequence(row, parts, true)), text_prefix_.size(), out);
      return;
    }
    out.references = answers_of(row);
    parts.push_back({out.references.front(), true});
    Sequence whole = sequence(row, parts, true);
    if (!out.references.front().empty()) {
      check(eos_id_ >= 0, row.source,
            ": the model's files name no end token (eos_token_id), which a completion must end with");
      whole.ids.push_back(eos_id_);
      whole.labels.push_back(eos_id_);
    }
    fit_into(std::move(whole), text_prefix_.size(), out);
  }

  void encode_text(const Row& row, Example& out) const {
    const std::string text = text_of(row, text_, "text, or data.prompt and data.completion, or data.messages");
    std::vector<int64_t> ids = text_prefix_;
    for (const int64_t id : tokenizer(row).tokenize(text)) ids.push_back(id);
    if (!out.labelled) {
      fit_into(prompt_only({ids, std::vector<int64_t>(ids.size(), kIgnored), 0}), text_prefix_.size(), out);
      return;
    }
    if (eos_id_ >= 0 && ids.size() > text_prefix_.size()) ids.push_back(eos_id_);
    if (!pack_ && static_cast<int64_t>(ids.size()) > max_length_) {
      ids.resize(static_cast<size_t>(max_length_));
      out.truncated = true;
    }
    out.input_ids = ids;
    out.label_ids = ids;
    out.joined = true;
    // In a block the token before is the end of another text, after which any text may begin.
    if (!ids.empty() && !pack_) out.label_ids.front() = kIgnored;
    if (ids.size() == text_prefix_.size()) std::fill(out.label_ids.begin(), out.label_ids.end(), kIgnored);
  }

  void encode_ids(const Row& row, Example& out) const {
    RowIds ids = read_model_ids(row, out.labelled);
    const bool own = row.fields.contains("labels");
    out.input_ids = std::move(ids.input_ids);
    out.label_ids = own ? std::move(ids.labels) : out.input_ids;
    if (out.label_ids.empty()) out.label_ids.assign(out.input_ids.size(), kIgnored);
    out.joined = out.labelled && !own;
    const auto first =
        std::find_if(out.label_ids.begin(), out.label_ids.end(), [](int64_t id) { return id != kIgnored; }) -
        out.label_ids.begin();
    if (own || !out.labelled)
      out.prompt_ids.assign(out.input_ids.begin(), own ? out.input_ids.begin() + first : out.input_ids.end());
    out.label_ids.front() = kIgnored;  // no token before it predicts it, least of all another row's
    if (static_cast<int64_t>(out.input_ids.size()) > max_length_ && (own || !pack_)) {
      check(!own || too_long_ != "error", row.source, ": input_ids has ", out.input_ids.size(),
            " tokens, but data.max_length is ", max_length_, "; raise it, or set data.too_long: cut or drop");
      out.truncated = true;
      out.input_ids.resize(static_cast<size_t>(max_length_));
      out.label_ids.resize(static_cast<size_t>(max_length_));
      if (own && too_long_ == "drop") std::fill(out.label_ids.begin(), out.label_ids.end(), kIgnored);
    }
  }

  /// Documents one after the other, cut into blocks of max_length; the last block may be shorter. Rows with labels of
  /// their own are never among them.
  std::vector<Example> packed(const std::vector<Example>& documents) const {
    std::vector<Example> blocks;
    for (const auto& document : documents) {
      for (size_t t = 0; t < document.input_ids.size(); ++t) {
        if (blocks.empty() || static_cast<int64_t>(blocks.back().input_ids.size()) == max_length_) {
          blocks.emplace_back();
          blocks.back().source = document.source;
          blocks.back().labelled = true;
        }
        blocks.back().label_ids.push_back(t == 0 && blocks.back().input_ids.empty() ? kIgnored : document.label_ids[t]);
        blocks.back().input_ids.push_back(document.input_ids[t]);
      }
    }
    if (blocks.size() > 1 && blocks.back().input_ids.size() < 2) blocks.pop_back();  // one token predicts nothing
    log_info(documents.size(), " documents packed into ", blocks.size(), " blocks of ", max_length_, " tokens");
    return blocks;
  }

  std::string text_ = "text", prompt_ = "prompt", completion_ = "completion", messages_ = "messages", chat_template_,
              chat_date_;
  std::vector<std::string> chat_variables_;
  std::string template_text_;  ///< of a file
  bool pack_ = true, chat_ = false;
  int64_t positions_ = 0;
  std::optional<ChatTemplate> template_, tool_template_;
  std::string no_template_ = "the model has no tokenizer";
};

}  // namespace

std::unique_ptr<Task> make_causal_lm(const Config& data) { return std::make_unique<CausalLm>(data); }

}  // namespace deeplora
