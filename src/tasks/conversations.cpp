#include "tasks/conversations.h"

#include <map>

#include "core/json_file.h"

namespace deeplora {
namespace {

using Json = nlohmann::ordered_json;

/// A list that may stand in a column as its JSON text.
Json list_of(const Json& value, std::string_view where, const char* what) {
  Json list = value;
  if (value.is_string() && !nests_too_deep(value.get_ref<const std::string&>()))
    list = Json::parse(value.get<std::string>(), nullptr, /*allow_exceptions=*/false);
  check(list.is_array() && !list.empty(), where, ": ", what, ", found ", shown(value));
  return list;
}

/// The text of a content: a text, a list of {"type": "text", "text": ...}, or nothing.
std::string text_of(const Json& message, std::string_view where) {
  const auto found = message.find("content");
  if (found == message.end() || found->is_null()) return "";
  if (found->is_string()) return found->get<std::string>();
  check(found->is_array(), where, ": messages: content: expected a text or a list of parts, found ", shown(*found));
  std::string out;
  for (const auto& part : *found) {
    const bool fits = part.is_object() && part.value("type", Json("text")) == "text" && part.contains("text") &&
                      part["text"].is_string();
    check(fits || part.is_string(), where,
          ": messages: content: expected parts {\"type\": \"text\", \"text\": text}, found ", shown(part));
    out += part.is_string() ? part.get<std::string>() : part["text"].get<std::string>();
  }
  return out;
}

/// A message without its nulls; reasoning under every name that templates read.
Json cleaned(const Json& message) {
  Json out = Json::object();
  const char* kNames[] = {"reasoning_content", "thinking", "reasoning"};
  const Json* reasoning = nullptr;
  for (const char* name : kNames)
    if (!reasoning && message.contains(name) && !message[name].is_null()) reasoning = &message[name];
  if (reasoning) out["thinking"] = *reasoning;
  for (const auto& [key, value] : message.items())
    if (!value.is_null()) out[key] = value;
  if (reasoning) out["reasoning_content"] = *reasoning;
  return out;
}

}  // namespace

ChatMessage make_message(const std::string& role, const std::string& text) {
  return {role, text, jinja::Value::from_json({{"role", role}, {"content", text}}), false};
}

std::vector<ChatMessage> read_messages(const Json& value, std::string_view where) {
  std::vector<ChatMessage> out;
  for (const auto& message : list_of(value, where, "messages: expected a list of {\"role\", \"content\"}")) {
    const bool fits = message.is_object() && message.contains("role") && message["role"].is_string();
    check(fits, where, ": messages: expected {\"role\": text, \"content\": text}, found ", shown(message));
    ChatMessage one{message["role"].get<std::string>(), text_of(message, where)};
    one.listed = message.contains("content") && message["content"].is_array();
    try {
      one.value = jinja::Value::from_json(cleaned(message));
    } catch (const Error& e) {
      fail(where, ": messages: ", e.what());
    }
    out.push_back(std::move(one));
  }
  return out;
}

std::vector<ChatMessage> read_sharegpt(const Json& value, std::string_view where) {
  static const std::map<std::string, std::string> roles{
      {"human", "user"},        {"user", "user"},      {"gpt", "assistant"},    {"assistant", "assistant"},
      {"chatgpt", "assistant"}, {"bing", "assistant"}, {"bard", "assistant"},   {"model", "assistant"},
      {"system", "system"},     {"tool", "tool"},      {"observation", "tool"}, {"function_response", "tool"}};
  std::vector<ChatMessage> out;
  for (const auto& turn : list_of(value, where, "conversations: expected a list of {\"from\", \"value\"}")) {
    if (!turn.is_object() || !turn.contains("from")) return read_messages(value, where);
    const bool fits = turn.is_object() && turn.contains("from") && turn["from"].is_string() && turn.contains("value") &&
                      (turn["value"].is_string() || turn["value"].is_null());
    check(fits, where, ": conversations: expected {\"from\": text, \"value\": text}, found ", shown(turn));
    const auto from = turn["from"].get<std::string>();
    const auto role = roles.find(from);
    std::vector<std::string> known;
    for (const auto& entry : roles) known.push_back(entry.first);
    check(role != roles.end(), where, ": conversations: from '", from, "' is not known; expected one of ", join(known),
          did_you_mean(from, known));
    out.push_back(make_message(role->second, turn["value"].is_null() ? "" : turn["value"].get<std::string>()));
  }
  return out;
}

std::optional<jinja::Value> read_objects(const Json& fields, const std::string& column, std::string_view where) {
  const auto found = fields.find(column);
  if (found == fields.end() || found->is_null() || found->empty() || *found == "" || *found == "[]")
    return std::nullopt;
  const Json list = list_of(*found, where, (column + ": expected a list of objects").c_str());
  for (const auto& one : list) check(one.is_object(), where, ": ", column, ": expected objects, found ", shown(one));
  return jinja::Value::from_json(list);
}

std::string alpaca_prompt(const std::string& instruction, const std::string& input) {
  const std::string what = "Below is an instruction that describes a task",
                    ask = "Write a response that appropriately completes the request.\n\n";
  const std::string asked = "### Instruction:\n" + instruction + "\n\n";
  if (input.empty()) return what + ". " + ask + asked + "### Response:";
  return what + ", paired with an input that provides further context. " + ask + asked + "### Input:\n" + input +
         "\n\n### Response:";
}

}  // namespace deeplora
