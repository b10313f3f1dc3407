// What tasks of causal language models share: prompts and conversations as tokens, chat templates, what is cut.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tasks/chat_rows.h"
#include "tasks/language_task.h"

namespace deeplora {

/// Ids, and at every place the token to predict there (the same id) or kIgnored.
struct Sequence {
  std::vector<int64_t> ids, labels;
  size_t answer = 0;  ///< where the last predicted stretch begins
};

/// Rows begin with a prompt (a text, Alpaca's columns, ids) or a conversation; a task adds what follows.
class DecoderTask : public LanguageTask {
 public:
  nlohmann::ordered_json settings() const override;
  void fit(std::span<const Row> train, std::span<const Row> all) override;
  /// A template that came from a file is kept, so that the run needs the file no more.
  nlohmann::ordered_json state() const override;
  void restore(const OrderedJsonFile& state) override;
  void use_model(const TaskModel& model) override;
  /// One row of the batch for every example.
  Batch collate(std::span<const Example* const> examples) const override;

 protected:
  /// Reads prompt, messages, chat_template, chat_variables and chat_date of the `data` section beside LanguageTask's
  /// keys.
  DecoderTask(std::string name, const Config& data, const Scoring& scoring);

  const std::vector<int64_t>& prompt_of(const Example& example) const override { return example.prompt_ids; }
  bool takes_decoder() const override { return false; }
  int64_t new_token_limit(const std::vector<int64_t>& prompt) const override;

  /// Whether a row is or holds a conversation.
  virtual bool holds_conversation(const Row& row) const { return is_conversation(row, messages_); }
  bool is_alpaca(const Row& row) const;
  bool is_prompt(const Row& row) const;
  /// Whether a row without a conversation is one all the same: a message of the user.
  bool prompts_are_messages(const Row& row, bool labelled) const;
  /// The prompt of a row that is_prompt().
  std::string plain_prompt(const Row& row) const;
  /// What a row asks: its messages, or its prompt as a message of the user; tools and documents beside it.
  virtual Conversation question_of(const Row& row) const;
  /// The template for a conversation. Throws Error naming the row where there is none.
  const ChatTemplate& template_for(const Row& row, const Conversation& conversation) const;

  /// A prompt and what follows it.
  struct Part {
    std::string text;
    bool predicted = false;
  };
  /// Tokens of parts one after the other: those of the whole text so far where they begin with the ones before, else
  /// each part's own, so that the tokens of a prompt are the same with and without its answer. The tokenizer's prefix
  /// stands in front.
  Sequence sequence(const Row& row, const std::vector<Part>& parts) const;
  /// A prompt, its answer and the end token behind it. Throws Error where the model has no end token.
  Sequence answered(const Row& row, const std::string& prompt, const std::string& answer) const;
  /// A conversation's tokens with those that are learnt.
  static Sequence learnt_of(const ChatTokens& tokens);
  /// Nothing of it is an answer.
  static Sequence prompt_only(std::vector<int64_t> ids);
  /// The sequence within max_length. A prompt loses its beginning (`prefix` tokens in front apart) for the answer, or
  /// for one of `reserved` tokens where that is longer; an answer that does not fit goes by data.too_long.
  void fit_into(Sequence sequence, size_t prefix, Example& out, size_t reserved = 0) const;

  /// A row without an answer: what generation starts from.
  void encode_question(const Row& row, Example& out) const;
  void encode_question(const Row& row, const std::string& prompt, Example& out) const;
  void encode_question(const Row& row, Conversation conversation, Example& out) const;
  /// Calls encode(); what it throws names the row.
  template <class Encode>
  static void in_row(const Row& row, const Encode& encode) {
    try {
      encode();
    } catch (const Error& e) {
      const std::string message = e.what();
      fail(message.starts_with(row.source) ? "" : row.source + ": ", message);
    }
  }

  std::string prompt_ = "prompt", messages_ = "messages", chat_template_;
  bool chat_ = false;  ///< some training row is a conversation

 private:
  bool names_file() const;
  void find_template();
  void file_template(const jinja::Variables& tokens);
  void own_template(const TokenizerConfig& settings, const jinja::Variables& tokens);
  void give_variables(ChatTemplate& one) const;
  void add_end_of_turn();

  std::string chat_date_, template_text_;  ///< text of a file
  std::vector<std::string> chat_variables_;
  int64_t positions_ = 0;
  std::optional<ChatTemplate> template_, tool_template_;
  std::string no_template_ = "the model has no tokenizer";
};

std::unique_ptr<Task> make_causal_lm(const Config& data);
std::unique_ptr<Task> make_preference(const Config& data);

}  // namespace deeplora
