// Conversations as data sets hold them: messages (role, content), ShareGPT (from, value), Alpaca (instruction, input,
// output). Free of LibTorch.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "template/value.h"

namespace deeplora {

struct ChatMessage {
  std::string role;     ///< as the row has it: system, user, assistant, tool, ...
  std::string text;     ///< its content, text parts joined; empty without one
  jinja::Value value;   ///< what a template sees
  bool listed = false;  ///< the content is a list of parts
};

struct Conversation {
  std::vector<ChatMessage> messages;
  std::optional<jinja::Value> tools, documents;  ///< as templates take them
};

/// A message of a text.
ChatMessage make_message(const std::string& role, const std::string& text);

/// [{"role": ..., "content": ...}, ...], also as text. Keys that are null are left out and reasoning is known under all
/// its names, as transformers has it. Throws Error naming `where` for messages without a role and contents that are
/// neither text nor parts.
std::vector<ChatMessage> read_messages(const nlohmann::ordered_json& value, std::string_view where);

/// [{"from": human or gpt or ..., "value": ...}, ...], also as text; messages with roles are taken as they are.
std::vector<ChatMessage> read_sharegpt(const nlohmann::ordered_json& value, std::string_view where);

/// Columns "tools" and "documents" of a row: lists of objects, also as text.
std::optional<jinja::Value> read_objects(const nlohmann::ordered_json& fields, const std::string& column,
                                         std::string_view where);

/// The prompt that Alpaca's own models were trained on.
std::string alpaca_prompt(const std::string& instruction, const std::string& input);

}  // namespace deeplora
