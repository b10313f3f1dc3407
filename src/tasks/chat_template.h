// Conversations as the text that chat models were trained on, and which of it they learn to write. Free of LibTorch.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json_file.h"
#include "tasks/conversations.h"
#include "template/template.h"
#include "text/tokenizer_json.h"

namespace deeplora {

/// A conversation's text, and the stretches [begin, end) in bytes that the assistant writes: its answers with their end
/// marks.
struct ChatText {
  std::string text;
  std::vector<std::pair<size_t, size_t>> answers;
};

/// A Jinja chat template with the tokenizer's special tokens, rendered as transformers' apply_chat_template does.
class ChatTemplate {
 public:
  /// The names that by_name() takes: chatml, gemma, gemma3, llama2, llama3, llama3.1, mistral, phi3, zephyr.
  static std::vector<std::string> names();
  /// Throws Error listing the names.
  static ChatTemplate by_name(const std::string& name, const jinja::Variables& tokens);
  /// `origin` names the template in errors. Throws Error with line and column for a malformed one.
  static ChatTemplate parse(const std::string& jinja, const std::string& origin, const jinja::Variables& tokens);

  /// Further variables of every rendering (enable_thinking), and the day that strftime_now tells.
  void set_variables(const jinja::Variables& variables, jinja::Clock clock);
  /// The text that ends an assistant's turn ("<|im_end|>"); empty when it cannot be told.
  std::string end_of_turn() const;
  /// The conversation, followed by what invites the assistant to answer. Throws Error for what the template raises.
  std::string prompt(const Conversation& conversation) const;
  std::string text(const Conversation& conversation) const;
  /// The whole conversation. The answers are what {% generation %} marks, else what each of them adds to the
  /// conversation before it. Throws Error for what the template raises, and where it cannot be told which text is an
  /// answer.
  ChatText whole(const Conversation& conversation) const;

 private:
  jinja::Rendering render(const Conversation& conversation, size_t count, bool open) const;
  std::pair<size_t, size_t> answer(const Conversation& conversation, size_t index, const std::string& whole) const;
  std::optional<jinja::Template> template_;
  jinja::Variables tokens_, variables_;
  jinja::Clock clock_;
};

/// The chat templates of a tokenizer by name ("default", "tool_use", ...), from where transformers takes them:
/// chat_template.jinja and additional_chat_templates/NAME.jinja for the `further` names, else chat_template of
/// tokenizer_config.json.
std::map<std::string, std::string> chat_templates_of(const TokenizerFiles& files, const TokenizerConfig& settings,
                                                     const std::vector<std::string>& further);
/// "chat_template" of tokenizer_config.json: a text, which is called "default", or a list of {"name", "template"}.
std::map<std::string, std::string> chat_templates_of(const JsonFile& settings);
/// bos_token, eos_token, ...: the special tokens that the tokenizer names.
jinja::Variables special_tokens_of(const TokenizerConfig& settings);
/// "name=value" as a variable; the value is JSON, else a text. Throws Error without a name.
std::pair<std::string, jinja::Value> read_variable(const std::string& assignment);

}  // namespace deeplora
