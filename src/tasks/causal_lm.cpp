#include <torch/torch.h>

#include <algorithm>

#include "core/log.h"
#include "tasks/decoder_task.h"

namespace deeplora {
namespace {

/// Language modelling from left to right: plain text, prompt and completion, or conversations; the kind of each row is
/// told by its columns.
class CausalLm : public DecoderTask {
 public:
  explicit CausalLm(const Config& data) : DecoderTask("causal-lm", data, text_scoring()) {
    data.read("text", text_, "column of plain text to model");
    data.read("completion", completion_, "column of what is learnt: the loss is on it alone");
    data.read("pack", pack_,
              "plain text: documents one after the other in blocks of max_length; false: one row per example");
  }

  nlohmann::ordered_json settings() const override {
    auto out = DecoderTask::settings();
    out.update({{"text", text_}, {"completion", completion_}, {"pack", pack_}});
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
    const bool as_it_is = holds_conversation(row) || !is_prompt(row) || row.fields.contains("input_ids");
    return as_it_is ? row.fields.dump() : plain_prompt(row);
  }

  Example encode(const Row& row, const Tokenizer* /*the model's*/, bool labelled) const override {
    Example out;
    out.source = row.source;
    out.labelled = labelled;
    const bool conversation = holds_conversation(row) || prompts_are_messages(row, labelled);
    if (row.fields.contains("input_ids")) encode_ids(row, out);
    else if (!conversation && !is_prompt(row)) encode_text(row, out);
    else if (!labelled) encode_question(row, out);
    else if (conversation) encode_answers(row, out);
    else encode_completion(row, out);
    return out;
  }

  std::vector<Example> arrange(std::vector<Example> examples, std::string_view what) const override {
    auto kept = LanguageTask::arrange(std::move(examples), what);
    const bool joined = std::all_of(kept.begin(), kept.end(), [](const Example& e) { return e.joined; });
    return pack_ && joined ? packed(kept) : kept;
  }

 private:
  std::vector<std::string> answers_of(const Row& row) const {
    const bool output = is_alpaca(row) && !row.fields.contains(completion_);
    return references_of(row, output ? "output" : completion_, output ? "output" : "completion");
  }

  /// A row without messages is a question of the user, and its answer's column the answer.
  void encode_answers(const Row& row, Example& out) const {
    tokenizer(row);
    Conversation conversation = question_of(row);
    if (!holds_conversation(row)) {
      out.references = answers_of(row);
      conversation.messages.push_back(make_message("assistant", out.references.front()));
    }
    const ChatTemplate& chosen = template_for(row, conversation);
    in_row(row, [&] { encode_conversation(row, chosen, conversation, out); });
  }

  void encode_conversation(const Row& row, const ChatTemplate& chosen, const Conversation& conversation,
                           Example& out) const {
    ChatTokens tokens = tokens_of_answers(conversation, chosen, tokenizer(row), static_cast<size_t>(max_length_));
    if (out.references.empty())
      for (const auto& message : conversation.messages)
        if (message.role == "assistant") out.references = {message.text};
    Example prompt;
    fit_into(prompt_only(std::move(tokens.prompt)), tokens.fixed, prompt);
    fit_into(learnt_of(tokens), tokens.fixed, out);
    out.prompt_ids = std::move(prompt.prompt_ids);
    out.truncated = out.truncated || tokens.shortened;
  }

  void encode_completion(const Row& row, Example& out) const {
    out.references = answers_of(row);
    fit_into(answered(row, plain_prompt(row), out.references.front()), text_prefix_.size(), out);
  }

  void encode_text(const Row& row, Example& out) const {
    const std::string text = text_of(row, text_, "text, or data.prompt and data.completion, or data.messages");
    std::vector<int64_t> ids = text_prefix_;
    for (const int64_t id : tokenizer(row).tokenize(text)) ids.push_back(id);
    if (!out.labelled) {
      fit_into(prompt_only(std::move(ids)), text_prefix_.size(), out);
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

  std::string text_ = "text", completion_ = "completion";
  bool pack_ = true;
};

}  // namespace

std::unique_ptr<Task> make_causal_lm(const Config& data) { return std::make_unique<CausalLm>(data); }

}  // namespace deeplora
