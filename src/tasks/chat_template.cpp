#include "tasks/chat_template.h"

#include <algorithm>

namespace deeplora {
namespace {

std::string trimmed(const std::string& text) {
  const char* space = " \t\n\r\f\v";
  const size_t first = text.find_first_not_of(space);
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(space) - first + 1);
}

/// `text` with {bos} and {eos} filled in.
std::string filled(std::string text, const std::string& bos, const std::string& eos) {
  for (const auto& [name, value] : {std::pair{std::string("{bos}"), bos}, std::pair{std::string("{eos}"), eos}})
    for (size_t at = 0; (at = text.find(name, at)) != std::string::npos; at += value.size()) text.replace(at, name.size(), value);
  return text;
}

/// The two characters \n of a Jinja string literal as a line break.
std::string unescaped(std::string text) {
  for (size_t at = 0; (at = text.find("\\n", at)) != std::string::npos; ++at) text.replace(at, 2, "\n");
  return text;
}

/// The system prompt that a ChatML template brings: the text after a literal "<|im_start|>system\n" in it.
std::string chatml_default_system(const std::string& jinja) {
  for (const std::string mark : {"<|im_start|>system\\n", "<|im_start|>system\n"}) {
    for (size_t at = jinja.find(mark); at != std::string::npos; at = jinja.find(mark, at + 1)) {
      const size_t begin = at + mark.size(), end = jinja.find("<|im_end|>", begin), quote = jinja.find_first_of("'\"", begin);
      if (end != std::string::npos && quote > end && end > begin) return unescaped(jinja.substr(begin, end - begin));
    }
  }
  return {};
}

}  // namespace

/// A form as data: texts around each role's content. {bos} and {eos} stand for the tokenizer's own tokens.
struct ChatTemplate::Form {
  const char* name;
  std::vector<std::string> marks{};    ///< texts that a Jinja template of this form holds, all of them
  std::vector<std::string> never{};    ///< texts of templates that are another form
  const char* begin = "";              ///< before everything
  const char *system_begin = "", *system_end = "", *user_begin = "", *user_end = "", *assistant_begin = "", *assistant_end = "";
  const char* open = "";               ///< invites the assistant
  const char* close = "";              ///< ends a conversation that is not left open
  bool system_in_user = false;         ///< the system message stands inside the first user message
  bool has_system = true;
  bool always_system = false;          ///< also without a system message
  bool strip_around_system = false;    ///< white space goes from around system message and content together
  bool strip_system = false, strip_user = false, strip_assistant = false;  ///< white space around contents is dropped
  size_t answer_in_begin = 0;          ///< last characters of assistant_begin that belong to the answer (" answer")
};

const std::vector<ChatTemplate::Form>& ChatTemplate::forms() {
  // Marks are texts of the published templates, so that a variant that renders otherwise is not taken for its neighbour.
  static const char *kHeader = "<|start_header_id|>", *kLlamaOpen = "<|start_header_id|>assistant<|end_header_id|>\n\n";
  static const std::vector<Form> forms{
      {.name = "llama3.1", .marks = {kHeader, "Cutting Knowledge Date", "26 Jul 2024"}, .never = {"strftime_now"}, .begin = "{bos}",
       .system_begin = "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n",
       .system_end = "<|eot_id|>", .user_begin = "<|start_header_id|>user<|end_header_id|>\n\n", .user_end = "<|eot_id|>",
       .assistant_begin = kLlamaOpen, .assistant_end = "<|eot_id|>", .open = kLlamaOpen, .always_system = true, .strip_system = true,
       .strip_user = true, .strip_assistant = true},
      {.name = "llama3", .marks = {kHeader, "<|eot_id|>"}, .never = {"Cutting Knowledge Date"}, .begin = "{bos}",
       .system_begin = "<|start_header_id|>system<|end_header_id|>\n\n", .system_end = "<|eot_id|>",
       .user_begin = "<|start_header_id|>user<|end_header_id|>\n\n", .user_end = "<|eot_id|>", .assistant_begin = kLlamaOpen,
       .assistant_end = "<|eot_id|>", .open = kLlamaOpen, .strip_system = true, .strip_user = true, .strip_assistant = true},
      {.name = "chatml", .marks = {"<|im_start|>", "<|im_end|>"}, .never = {"<think>"}, .system_begin = "<|im_start|>system\n",
       .system_end = "<|im_end|>\n", .user_begin = "<|im_start|>user\n", .user_end = "<|im_end|>\n", .assistant_begin = "<|im_start|>assistant\n",
       .assistant_end = "<|im_end|>\n", .open = "<|im_start|>assistant\n"},
      {.name = "llama2", .marks = {"bos_token + '[INST] ' + content.strip() + ' [/INST]'", "<<SYS>>"}, .system_begin = "<<SYS>>\n",
       .system_end = "\n<</SYS>>\n\n", .user_begin = "{bos}[INST] ", .user_end = " [/INST]", .assistant_begin = " ", .assistant_end = " {eos}",
       .system_in_user = true, .strip_around_system = true, .strip_user = true, .strip_assistant = true, .answer_in_begin = 1},
      {.name = "mistral", .marks = {"'[INST] ' + message['content'] + ' [/INST]'", "message['content'] + eos_token}"}, .begin = "{bos}",
       .user_begin = "[INST] ", .user_end = " [/INST]", .assistant_end = "{eos}", .has_system = false},
      {.name = "gemma3", .marks = {"<start_of_turn>", "first_user_prefix"}, .begin = "{bos}", .system_end = "\n\n",
       .user_begin = "<start_of_turn>user\n", .user_end = "<end_of_turn>\n", .assistant_begin = "<start_of_turn>model\n",
       .assistant_end = "<end_of_turn>\n", .open = "<start_of_turn>model\n", .system_in_user = true, .strip_user = true, .strip_assistant = true},
      {.name = "gemma", .marks = {"<start_of_turn>", "<end_of_turn>"}, .begin = "{bos}", .user_begin = "<start_of_turn>user\n",
       .user_end = "<end_of_turn>\n", .assistant_begin = "<start_of_turn>model\n", .assistant_end = "<end_of_turn>\n",
       .open = "<start_of_turn>model\n", .has_system = false, .strip_user = true, .strip_assistant = true},
      {.name = "phi3", .marks = {"'<|user|>", "'<|end|>", "{% else %}{{ eos_token }}"}, .system_begin = "<|system|>\n", .system_end = "<|end|>\n",
       .user_begin = "<|user|>\n", .user_end = "<|end|>\n", .assistant_begin = "<|assistant|>\n", .assistant_end = "<|end|>\n",
       .open = "<|assistant|>\n", .close = "{eos}"},
      {.name = "zephyr", .marks = {"'<|user|>", "'<|assistant|>", "message['content'] + eos_token }}\n"}, .never = {"<|end|>"},
       .system_begin = "<|system|>\n", .system_end = "{eos}\n", .user_begin = "<|user|>\n", .user_end = "{eos}\n",
       .assistant_begin = "<|assistant|>\n", .assistant_end = "{eos}\n", .open = "<|assistant|>\n"},
  };
  return forms;
}

std::vector<std::string> ChatTemplate::names() {
  std::vector<std::string> out;
  for (const auto& form : forms()) out.emplace_back(form.name);
  std::sort(out.begin(), out.end());
  return out;
}

ChatTemplate ChatTemplate::by_name(const std::string& name, const std::string& bos, const std::string& eos) {
  for (const auto& form : forms()) {
    if (form.name != name) continue;
    ChatTemplate out;
    out.name_ = name;
    out.bos_ = bos;
    out.eos_ = eos;
    out.form_ = &form;
    out.end_of_turn_ = trimmed(filled(form.assistant_end, bos, eos));
    return out;
  }
  fail("data.chat_template: unknown name '", name, "'; known: ", join(names()), ", or auto", did_you_mean(name, names()));
}

ChatTemplate ChatTemplate::recognise(const std::string& jinja, const std::string& bos, const std::string& eos) {
  const auto holds = [&](const std::string& mark) { return jinja.find(mark) != std::string::npos; };
  for (const auto& form : forms()) {
    if (!std::all_of(form.marks.begin(), form.marks.end(), holds) || std::any_of(form.never.begin(), form.never.end(), holds)) continue;
    ChatTemplate out = by_name(form.name, bos, eos);
    if (out.name_ == "chatml") out.default_system_ = chatml_default_system(jinja);
    return out;
  }
  fail("the tokenizer's chat template is none of the known forms (", join(names()), "); choose the nearest with data.chat_template. It begins: ",
       jinja.substr(0, 120));
}

std::vector<ChatPart> ChatTemplate::render(const std::vector<ChatMessage>& messages, bool open) const {
  const Form& form = *form_;
  std::vector<ChatPart> parts;
  const auto say = [&](const std::string& text, bool predicted) {
    if (text.empty()) return;
    if (!parts.empty() && parts.back().predicted == predicted) parts.back().text += text;
    else parts.push_back({text, predicted});
  };
  const auto fixed = [&](const char* text) { return filled(text, bos_, eos_); };
  say(fixed(form.begin), false);
  std::string system = default_system_, pending;
  size_t first = 0;
  if (!messages.empty() && messages.front().role == "system") {
    check(form.has_system, "the chat template '", name_, "' has no system message; put its text into the first user message");
    system = form.strip_system ? trimmed(messages.front().content) : messages.front().content;
    first = 1;
  }
  if (!system.empty() || first == 1 || form.always_system) {
    if (form.system_in_user) pending = form.system_begin + system + form.system_end;
    else say(fixed(form.system_begin) + system + fixed(form.system_end), false);
  }
  for (size_t i = first; i < messages.size(); ++i) {
    const bool user = messages[i].role == "user";
    check(user || messages[i].role == "assistant", "messages: role '", messages[i].role, "' at place ", i + 1, "; expected ",
          i == 0 ? "system, " : "", "user or assistant");
    check(user == ((i - first) % 2 == 0), "messages: user and assistant must take turns, beginning with user; place ", i + 1, " is ", messages[i].role);
    if (user) {
      std::string content = form.strip_user && !form.strip_around_system ? trimmed(messages[i].content) : messages[i].content;
      content = pending + content;
      pending.clear();
      if (form.strip_around_system) content = trimmed(content);
      say(fixed(form.user_begin) + content + fixed(form.user_end), false);
      continue;
    }
    const std::string begin = fixed(form.assistant_begin);
    const size_t shown = begin.size() - form.answer_in_begin;
    say(begin.substr(0, shown), false);
    std::string end = fixed(form.assistant_end), after;
    if (end.ends_with('\n')) {  // stands between turns, after the end mark: nothing to learn
      after = "\n";
      end.pop_back();
    }
    say(begin.substr(shown) + (form.strip_assistant ? trimmed(messages[i].content) : messages[i].content) + end, true);
    say(after, false);
  }
  say(fixed(open ? form.open : form.close), false);
  return parts;
}

std::optional<std::string> chat_template_of(const JsonFile& settings) {
  if (!settings.has("chat_template")) return std::nullopt;
  const auto& own = settings.root["chat_template"];
  if (!own.is_array()) return settings.at<std::string>("chat_template");
  std::optional<std::string> found;
  const std::string where = settings.name + ": chat_template";
  for (const auto& entry : own)
    if (json_at<std::string>(entry, "name", where) == "default") found = json_at<std::string>(entry, "template", where);
  return found;
}

std::vector<ChatMessage> read_messages(const nlohmann::ordered_json& value, std::string_view where) {
  nlohmann::ordered_json list = value;
  if (value.is_string() && !nests_too_deep(value.get_ref<const std::string&>()))
    list = nlohmann::ordered_json::parse(value.get<std::string>(), nullptr, /*allow_exceptions=*/false);
  check(list.is_array() && !list.empty(), where, ": messages: expected a list of {\"role\", \"content\"}, found ", value.dump().substr(0, 80));
  std::vector<ChatMessage> out;
  for (const auto& message : list) {
    const bool fits = message.is_object() && message.contains("role") && message["role"].is_string() && message.contains("content") &&
                      message["content"].is_string();
    check(fits, where, ": messages: expected {\"role\": text, \"content\": text}, found ", message.dump().substr(0, 80));
    out.push_back({message["role"].get<std::string>(), message["content"].get<std::string>()});
  }
  return out;
}

}  // namespace deeplora
