#include "tasks/chat_rows.h"

#include <algorithm>
#include <functional>

#include "core/json_file.h"

namespace deeplora {
namespace {

using Ids = std::vector<int64_t>;

/// How many tokens of `all` those of the first `bytes` of its text are; `whole` is false where a token goes on behind
/// them.
size_t tokens_before(const Tokenizer& tokenizer, std::string_view text, size_t bytes, const Ids& all, bool& whole) {
  const Ids before = tokenizer.tokenize(text.substr(0, bytes));
  const auto most = before.begin() + static_cast<std::ptrdiff_t>(std::min(before.size(), all.size()));
  const auto same = static_cast<size_t>(std::mismatch(before.begin(), most, all.begin()).first - before.begin());
  whole = same == before.size();
  return same;
}

/// The token that begins every text stays in front of what is cut.
size_t fixed_tokens(const Tokenizer& tokenizer, const Ids& ids) {
  return !ids.empty() && ids.front() == tokenizer.special().bos ? 1 : 0;
}

/// Where turns begin that a conversation may be cut at: behind its system texts, at messages of the user. `last`: what
/// follows does not count.
std::vector<size_t> turns_of(const Conversation& all, size_t last) {
  std::vector<size_t> starts;
  size_t first = 0;
  while (first < last && all.messages[first].role == "system") ++first;
  for (size_t i = first; i < last; ++i)
    if (i == first || (all.messages[i].role == "user" && all.messages[i - 1].role != "user")) starts.push_back(i);
  return starts;
}

/// The conversation without its `count` oldest turns.
Conversation without_oldest(const Conversation& all, const std::vector<size_t>& starts, size_t count) {
  if (count == 0) return all;
  Conversation out{{}, all.tools, all.documents};
  for (size_t i = 0; i < all.messages.size(); ++i)
    if (i < starts.front() || i >= starts[count]) out.messages.push_back(all.messages[i]);
  return out;
}

/// As few oldest turns less as make it fit into `most` tokens; the last one stays. `last`: messages up to the last that
/// counts.
Conversation fitted(const Conversation& all, size_t last, size_t most,
                    const std::function<size_t(const Conversation&)>& size, bool& shortened) {
  shortened = false;
  if (size(all) <= most) return all;
  const auto starts = turns_of(all, last);
  if (starts.size() < 2) return all;
  size_t fewest = 1, highest = starts.size() - 1;
  while (fewest < highest) {
    const size_t middle = (fewest + highest) / 2;
    if (size(without_oldest(all, starts, middle)) <= most) highest = middle;
    else fewest = middle + 1;
  }
  shortened = true;
  return without_oldest(all, starts, fewest);
}

/// A template that knows texts alone may print a list of parts as Python code.
void check_parts(const Conversation& conversation, const std::string& text) {
  for (size_t i = 0; i < conversation.messages.size(); ++i) {
    const auto& message = conversation.messages[i];
    if (!message.listed) continue;
    const auto* content = message.value.dict().find(jinja::Value("content"));
    check(text.find(jinja::to_text(*content)) == std::string::npos, "messages: place ", i + 1,
          ": the chat template takes contents that are texts, and prints this list of parts as it is; write the texts "
          "as one, or choose a template with "
          "data.chat_template: ",
          join(ChatTemplate::names()));
  }
}

/// Messages up to the last answer, itself included; 0 without one.
size_t answered_part(const Conversation& conversation) {
  size_t count = conversation.messages.size();
  while (count > 0 && conversation.messages[count - 1].role != "assistant") --count;
  return count;
}

Ids prompt_of(Conversation conversation, const ChatTemplate& chat, const Tokenizer& tokenizer) {
  conversation.messages.resize(answered_part(conversation) - 1);
  if (conversation.messages.empty()) return {};
  try {
    return tokenizer.tokenize(chat.prompt(conversation));
  } catch (const Error&) {
    return {};  // a template may refuse to be asked here; the answers are learnt all the same
  }
}

Conversation continued(Conversation conversation, const std::vector<ChatMessage>& messages) {
  conversation.messages.insert(conversation.messages.end(), messages.begin(), messages.end());
  return conversation;
}

/// Tokens of a conversation whose answers are learnt, but for the first skip(their number); without its prompt.
ChatTokens learnt_tokens(const Conversation& kept, const ChatTemplate& chat, const Tokenizer& tokenizer,
                         const std::function<size_t(size_t)>& skip) {
  ChatTokens out;
  const ChatText whole = chat.whole(kept);
  check_parts(kept, whole.text);
  out.ids = tokenizer.tokenize(whole.text);
  out.learnt.assign(out.ids.size(), false);
  out.last_answer = out.ids.size();
  for (size_t i = skip(whole.answers.size()); i < whole.answers.size(); ++i) {
    const auto& [begin, end] = whole.answers[i];
    bool complete = true;
    const size_t first = tokens_before(tokenizer, whole.text, begin, out.ids, complete);
    size_t after = tokens_before(tokenizer, whole.text, end, out.ids, complete);
    if (!complete) after = std::min(after + 1, out.ids.size());
    for (size_t t = first; t < after; ++t) out.learnt[t] = true;
    out.last_answer = first;
  }
  out.fixed = fixed_tokens(tokenizer, out.ids);
  return out;
}

}  // namespace

bool is_conversation(const Row& row, const std::string& messages_column) {
  return row.fields.contains(messages_column) || row.fields.contains(kShareGptColumn);
}

std::string alpaca_column(const Row& row, const std::string& column) {
  const auto found = row.fields.find(column);
  if (found == row.fields.end() || found->is_null()) return "";
  check(found->is_string(), row.source, ": ", column, ": expected a text, found ", shown(*found));
  return found->get<std::string>();
}

Conversation alpaca_conversation(const Row& row) {
  const std::string system = alpaca_column(row, "system"), input = alpaca_column(row, "input");
  Conversation out;
  if (!system.empty()) out.messages.push_back(make_message("system", system));
  out.messages.push_back(make_message("user", alpaca_column(row, "instruction") + (input.empty() ? "" : "\n" + input)));
  return out;
}

Conversation read_conversation(const Row& row, const std::string& messages_column) {
  Conversation out;
  const auto& fields = row.fields;
  const bool sharegpt = !fields.contains(messages_column);
  out.messages = read_sharegpt(fields.at(sharegpt ? kShareGptColumn : messages_column), row.source);
  const std::string system = sharegpt ? alpaca_column(row, "system") : "";
  if (!system.empty() && out.messages.front().role != "system")
    out.messages.insert(out.messages.begin(), make_message("system", system));
  out.tools = read_objects(fields, "tools", row.source);
  out.documents = read_objects(fields, "documents", row.source);
  return out;
}

ChatTokens tokens_of_answers(const Conversation& conversation, const ChatTemplate& chat, const Tokenizer& tokenizer,
                             size_t most) {
  const size_t last = answered_part(conversation);
  check(last > 0, "messages: no message of the assistant, which is learnt");
  bool shortened = false;
  const auto size = [&](const Conversation& one) { return tokenizer.tokenize(chat.text(one)).size(); };
  const Conversation kept = fitted(conversation, last, most, size, shortened);
  ChatTokens out = learnt_tokens(kept, chat, tokenizer, [](size_t) { return size_t{0}; });
  out.prompt = prompt_of(kept, chat, tokenizer);
  out.shortened = shortened;
  return out;
}

std::pair<ChatTokens, ChatTokens> tokens_of_pair(const Conversation& question, const std::vector<ChatMessage>& first,
                                                 const std::vector<ChatMessage>& second, const ChatTemplate& chat,
                                                 const Tokenizer& tokenizer, size_t most) {
  const auto size_of = [&](const Conversation& one) { return tokenizer.tokenize(chat.text(one)).size(); };
  const auto size = [&](const Conversation& one) {
    return std::max(size_of(continued(one, first)), size_of(continued(one, second)));
  };
  bool shortened = false;
  const Conversation kept = fitted(question, question.messages.size(), most, size, shortened);
  const auto tokens_of = [&](const std::vector<ChatMessage>& answer) {
    const auto said = static_cast<size_t>(std::count_if(
        answer.begin(), answer.end(), [](const ChatMessage& message) { return message.role == "assistant"; }));
    const Conversation whole = continued(kept, answer);
    ChatTokens out = learnt_tokens(whole, chat, tokenizer, [&](size_t answers) {
      check(answers >= said, "messages: the chat template marks ", answers, " answers where there are ", said);
      return answers - said;
    });
    out.last_answer = static_cast<size_t>(std::find(out.learnt.begin(), out.learnt.end(), true) - out.learnt.begin());
    out.prompt = prompt_of(whole, chat, tokenizer);
    out.shortened = shortened;
    return out;
  };
  return {tokens_of(first), tokens_of(second)};
}

ChatTokens tokens_of_question(Conversation conversation, const ChatTemplate& chat, const Tokenizer& tokenizer,
                              size_t most) {
  if (!conversation.messages.empty() && conversation.messages.back().role == "assistant")
    conversation.messages.pop_back();
  check(!conversation.messages.empty(), "messages: nothing to answer");
  ChatTokens out;
  const auto size = [&](const Conversation& one) { return tokenizer.tokenize(chat.prompt(one)).size(); };
  const Conversation kept = fitted(conversation, conversation.messages.size(), most, size, out.shortened);
  const std::string text = chat.prompt(kept);
  check_parts(kept, text);
  out.ids = tokenizer.tokenize(text);
  out.fixed = fixed_tokens(tokenizer, out.ids);
  return out;
}

}  // namespace deeplora
