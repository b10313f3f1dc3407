// Conversations as the text that chat models were trained on. Free of LibTorch.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json_file.h"

namespace deeplora {

struct ChatMessage {
  std::string role;  ///< system, user or assistant
  std::string content;
};

/// A stretch of a conversation's text.
struct ChatPart {
  std::string text;
  bool predicted = false;  ///< an assistant's answer with its end mark: what a model is trained to write
};

/// One of the common forms, as transformers' apply_chat_template renders it with the models' own templates.
class ChatTemplate {
 public:
  /// The names that by_name() takes: chatml, gemma, gemma3, llama2, llama3, llama3.1, mistral, phi3, zephyr.
  static std::vector<std::string> names();
  /// Throws Error listing the names.
  static ChatTemplate by_name(const std::string& name, const std::string& bos, const std::string& eos);
  /// Recognised by the text of `chat_template` (Jinja) of tokenizer_config.json. Throws Error for a form that is none of the
  /// known ones.
  static ChatTemplate recognise(const std::string& jinja, const std::string& bos, const std::string& eos);

  const std::string& name() const { return name_; }
  /// The text that ends an assistant's turn ("<|im_end|>").
  const std::string& end_of_turn() const { return end_of_turn_; }
  /// The whole conversation; with `open` set, followed by what invites the assistant to answer. Throws Error for roles out of
  /// order and for a system message where the form has none.
  std::vector<ChatPart> render(const std::vector<ChatMessage>& messages, bool open) const;

 private:
  struct Form;
  static const std::vector<Form>& forms();
  std::string name_, bos_, eos_, end_of_turn_;
  std::string default_system_;  ///< put first where a conversation has no system message
  const Form* form_ = nullptr;
};

/// "chat_template" of tokenizer_config.json: a text, or the one called "default" of a list of {"name", "template"}.
std::optional<std::string> chat_template_of(const JsonFile& settings);

/// [{"role": ..., "content": ...}, ...], also as text; throws Error naming `where`.
std::vector<ChatMessage> read_messages(const nlohmann::ordered_json& value, std::string_view where);

}  // namespace deeplora
