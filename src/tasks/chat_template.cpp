#include "tasks/chat_template.h"

#include <algorithm>

#include "tasks/known_templates.h"

namespace deeplora {
namespace {

const std::string kMark =
    "\xEE\x80\x80"
    "answer\xEE\x80\x81";  ///< an answer that no conversation holds

size_t common_start(std::string_view a, std::string_view b) {
  return static_cast<size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(std::min(a.size(), b.size())), b.begin()).first -
      a.begin());
}

size_t common_end(std::string_view a, std::string_view b) {
  size_t count = 0;
  while (count < a.size() && count < b.size() && a[a.size() - 1 - count] == b[b.size() - 1 - count]) ++count;
  return count;
}

/// What two texts behind an answer share: its end mark. Where both go on, the beginning of their next marks ("<") is
/// not part of it.
size_t common_end_mark(std::string_view a, std::string_view b) {
  const size_t same = common_start(a, b);
  if (same == a.size() || same == b.size()) return same;
  const size_t boundary = a.substr(0, same).find_last_of(" \t\n\r>])");
  return boundary == std::string_view::npos ? same : boundary + 1;
}

std::string without_trailing_space(std::string text) {
  text.erase(text.find_last_not_of(" \t\n\r\f\v") + 1);
  return text;
}

/// The same conversation with another answer at `index`.
Conversation marked(Conversation conversation, size_t index) {
  ChatMessage& message = conversation.messages[index];
  jinja::Dict changed = message.value.dict();
  jinja::Value content(kMark);
  if (message.listed) {
    jinja::Dict part;
    part.set(jinja::Value("type"), jinja::Value("text"));
    part.set(jinja::Value("text"), content);
    content = jinja::Value::list({jinja::Value(std::move(part))});
  }
  changed.set(jinja::Value("content"), content);
  message.value = jinja::Value(std::move(changed));
  return conversation;
}

}  // namespace

std::vector<std::string> ChatTemplate::names() {
  std::vector<std::string> out;
  for (const auto& known : known_templates()) out.push_back(known.first);
  return out;
}

ChatTemplate ChatTemplate::by_name(const std::string& name, const jinja::Variables& tokens) {
  for (const auto& [known, jinja] : known_templates()) {
    if (known != name) continue;
    // Their texts join the tokens, which must be there.
    jinja::Variables all{{"bos_token", jinja::Value("")}, {"eos_token", jinja::Value("")}};
    all.insert(all.end(), tokens.begin(), tokens.end());
    return parse(jinja, "chat template " + name, all);
  }
  fail("data.chat_template: unknown name '", name, "'; known: ", join(names()), ", auto, or a file",
       did_you_mean(name, names()));
}

ChatTemplate ChatTemplate::parse(const std::string& jinja, const std::string& origin, const jinja::Variables& tokens) {
  ChatTemplate out;
  out.template_ = jinja::Template::parse(jinja, origin);
  out.tokens_ = tokens;
  return out;
}

void ChatTemplate::set_variables(const jinja::Variables& variables, jinja::Clock clock) {
  variables_ = variables;
  clock_ = std::move(clock);
}

jinja::Rendering ChatTemplate::render(const Conversation& conversation, size_t count, bool open) const {
  jinja::Values messages;
  for (size_t i = 0; i < count; ++i) messages.push_back(conversation.messages[i].value);
  jinja::Variables all = tokens_;
  all.insert(all.end(), variables_.begin(), variables_.end());
  all.emplace_back("messages", jinja::Value::list(std::move(messages)));
  all.emplace_back("tools", conversation.tools.value_or(jinja::Value::None{}));
  all.emplace_back("documents", conversation.documents.value_or(jinja::Value::None{}));
  all.emplace_back("add_generation_prompt", open);
  return template_->render(all, clock_);
}

std::string ChatTemplate::prompt(const Conversation& conversation) const {
  return render(conversation, conversation.messages.size(), true).text;
}

std::string ChatTemplate::text(const Conversation& conversation) const {
  return render(conversation, conversation.messages.size(), false).text;
}

std::string ChatTemplate::end_of_turn() const {
  try {
    const std::string text = this->text({{make_message("user", "x"), make_message("assistant", kMark)}, {}, {}});
    const size_t at = text.find(kMark);
    if (at == std::string::npos) return "";
    std::string tail = text.substr(at + kMark.size());
    tail.erase(0, std::min(tail.find_first_not_of(" \t\n\r"), tail.size()));
    return tail.substr(0, tail.find_first_of(" \t\n\r"));
  } catch (const Error&) {
    return "";
  }
}

ChatText ChatTemplate::whole(const Conversation& conversation) const {
  jinja::Rendering rendering = render(conversation, conversation.messages.size(), false);
  ChatText out{std::move(rendering.text), {}};
  if (template_->marks_generation()) {
    check(!rendering.hidden_generation, template_->name(),
          ": {% generation %} inside of a macro or another block: where its text stands is not known");
    for (const auto& stretch : rendering.generations)
      if (stretch.second > stretch.first) out.answers.push_back(stretch);
    return out;
  }
  for (size_t i = 0; i < conversation.messages.size(); ++i) {
    if (conversation.messages[i].role != "assistant") continue;
    auto stretch = answer(conversation, i, out.text);
    // A call of a tool and its answer may be one turn of the template.
    if (!out.answers.empty()) stretch.first = std::max(stretch.first, out.answers.back().second);
    if (stretch.second > stretch.first) out.answers.push_back(stretch);
  }
  return out;
}

/// What the answer adds: from where the conversation before it, with the invitation to answer, ends; to where the
/// conversation up to it ends. Templates that show older answers otherwise than newer ones are told by an answer that
/// is changed.
std::pair<size_t, size_t> ChatTemplate::answer(const Conversation& conversation, size_t index,
                                               const std::string& whole) const {
  const auto refuse = [&]() {
    fail(template_->name(), ": which text is the answer at place ", index + 1,
         " cannot be told; the template needs {% generation %} around it");
  };
  std::optional<Conversation> other;
  std::string other_whole;
  const auto content = [&](const std::string& text, size_t count) {
    if (!other) other = marked(conversation, index);
    const std::string changed = render(*other, count, false).text;
    if (changed.find(kMark) == std::string::npos) refuse();
    return std::pair(common_start(text, changed), text.size() - common_end(text, changed));
  };
  const size_t all = conversation.messages.size();
  size_t begin = std::string::npos;
  try {
    if (index > 0) {
      const std::string before = render(conversation, index, true).text,
                        closed = render(conversation, index, false).text;
      const size_t same = common_start(before, whole);
      if (same == before.size() || same >= common_start(closed, before)) begin = same;
    }
  } catch (const Error&) {  // a template may refuse a conversation that ends here
  }
  if (begin == std::string::npos) begin = content(whole, all).first;
  const std::string upto = index + 1 == all ? whole : render(conversation, index + 1, false).text;
  size_t end = upto.size();
  if (!whole.starts_with(upto)) {
    const size_t here = content(whole, all).second, there = content(upto, index + 1).second;
    end = here + common_end_mark(std::string_view(whole).substr(here), std::string_view(upto).substr(there));
  }
  if (begin > end) refuse();
  // White space behind the end mark stands between turns: nothing to learn.
  const std::string shown = without_trailing_space(whole.substr(begin, end - begin));
  const std::string said = without_trailing_space(conversation.messages[index].text);
  if (said.empty() || !shown.ends_with(said)) end = begin + shown.size();
  return {begin, end};
}

std::map<std::string, std::string> chat_templates_of(const JsonFile& settings) {
  std::map<std::string, std::string> out;
  if (!settings.has("chat_template")) return out;
  const auto& own = settings.root["chat_template"];
  if (!own.is_array()) return {{"default", settings.at<std::string>("chat_template")}};
  const std::string where = settings.name + ": chat_template";
  for (const auto& entry : own)
    out[json_at<std::string>(entry, "name", where)] = json_at<std::string>(entry, "template", where);
  return out;
}

std::map<std::string, std::string> chat_templates_of(const TokenizerFiles& files, const TokenizerConfig& settings,
                                                     const std::vector<std::string>& further) {
  std::map<std::string, std::string> out;
  if (auto text = files("chat_template.jinja")) out["default"] = std::move(*text);
  for (const auto& name : further)
    if (auto text = files("additional_chat_templates/" + name + ".jinja")) out[name] = std::move(*text);
  return out.empty() ? chat_templates_of(settings) : out;
}

jinja::Variables special_tokens_of(const TokenizerConfig& settings) {
  jinja::Variables out;
  for (const char* name : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"})
    if (const std::string token = settings.token(name, ""); !token.empty()) out.emplace_back(name, jinja::Value(token));
  return out;
}

std::pair<std::string, jinja::Value> read_variable(const std::string& assignment) {
  const size_t mark = assignment.find('=');
  check(mark != std::string::npos && mark > 0, "data.chat_variables: expected name=value, found '", assignment, "'");
  const std::string text = assignment.substr(mark + 1);
  const auto json = nests_too_deep(text) ? nlohmann::ordered_json()
                                         : nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  return {assignment.substr(0, mark), json.is_discarded() ? jinja::Value(text) : jinja::Value::from_json(json)};
}

}  // namespace deeplora
