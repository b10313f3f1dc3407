// Oracle: tests/golden/chat_templates.json, transformers' apply_chat_template (tests/golden/make/chat.py).
#include "tasks/chat_template.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "support/errors.h"

namespace deeplora {
namespace {

using testing::error_of;
using Json = nlohmann::ordered_json;

jinja::Variables tokens() { return {{"bos_token", jinja::Value("<s>")}, {"eos_token", jinja::Value("</s>")}}; }

const Json& golden() {
  static const Json content = Json::parse(read_file(DEEPLORA_TEST_DATA "/golden/chat_templates.json"));
  return content;
}

/// Roles and texts in turn.
Conversation talk(const std::vector<std::pair<std::string, std::string>>& turns) {
  Conversation out;
  for (const auto& [role, text] : turns) out.messages.push_back(make_message(role, text));
  return out;
}

Conversation golden_conversation(const std::string& name) {
  const Json& fields = golden()["conversations"][name];
  return {read_messages(fields["messages"], name), read_objects(fields, "tools", name),
          read_objects(fields, "documents", name)};
}

std::string answers(const ChatText& chat) {
  std::string out;
  for (const auto& [begin, end] : chat.answers) out += "[" + chat.text.substr(begin, end - begin) + "]";
  return out;
}

ChatTemplate parsed(const std::string& text) { return ChatTemplate::parse(text, "template", tokens()); }

TEST(ChatTemplateTest, EveryGoldenRowIsRenderedAsTransformersDoes) {
  size_t texts = 0, errors = 0, marks = 0;
  for (const auto& row : golden()["rows"]) {
    const std::string name = row["name"], where = name + ", " + row["conversation"].get<std::string>();
    const auto chat = parsed(golden()["templates"][name]["template"].get<std::string>());
    const Conversation conversation = golden_conversation(row["conversation"]);
    const bool open = row["open"];
    std::string text;
    const std::string error = error_of([&] { text = open ? chat.prompt(conversation) : chat.text(conversation); });
    if (row.contains("error")) {
      EXPECT_NE(error, "no error") << where << ": " << text;
      ++errors;
      continue;
    }
    EXPECT_EQ(error, "no error") << where;
    EXPECT_EQ(text, row["text"].get<std::string>()) << where;
    ++texts;
    if (open || !row.contains("marked")) continue;
    std::string marked;
    for (const auto& one : row["marked"])
      marked += one.get<std::string>().empty() ? "" : "[" + one.get<std::string>() + "]";
    EXPECT_EQ(answers(chat.whole(conversation)), marked) << where;
    ++marks;
  }
  EXPECT_GE(golden()["templates"].size(), 60u);
  EXPECT_EQ(texts + errors, golden()["templates"].size() * 12);
  EXPECT_GT(texts, 600u);
  EXPECT_GE(marks, 15u);
}

TEST(ChatTemplateTest, TemplatesByNameRenderWhatThePublishedOnesDo) {
  size_t rows = 0;
  for (const auto& row : golden()["rows"]) {
    const Json& known = golden()["templates"][row["name"].get<std::string>()];
    const std::string conversation = row["conversation"];
    const bool other_default = row["name"] == "Qwen2" || row["name"] == "SmolLM2";
    const bool simple = conversation == "question" || conversation == "answered" || conversation == "two turns" ||
                        conversation.starts_with("system");
    if (!known.contains("form") || other_default || !simple || conversation == "system in the middle" ||
        row.contains("error"))
      continue;
    const auto chat = ChatTemplate::by_name(known["form"].get<std::string>(), tokens());
    const Conversation turns = golden_conversation(conversation);
    EXPECT_EQ(row["open"].get<bool>() ? chat.prompt(turns) : chat.text(turns), row["text"].get<std::string>())
        << known["form"] << ", " << conversation;
    ++rows;
  }
  EXPECT_EQ(rows, 41u);
}

const std::vector<std::pair<std::string, std::string>> kTalk{
    {"user", "Hi"}, {"assistant", "Hello."}, {"user", "Bye"}, {"assistant", "See you."}};

TEST(ChatTemplateTest, OnlyAnswersAndTheirEndMarksAreLearnt) {
  EXPECT_EQ(answers(ChatTemplate::by_name("chatml", tokens()).whole(talk(kTalk))),
            "[Hello.<|im_end|>][See you.<|im_end|>]");
  EXPECT_EQ(answers(ChatTemplate::by_name("llama2", tokens()).whole(talk(kTalk))), "[ Hello. </s>][ See you. </s>]");
  EXPECT_EQ(ChatTemplate::by_name("chatml", tokens()).end_of_turn(), "<|im_end|>");
  EXPECT_EQ(ChatTemplate::by_name("mistral", tokens()).end_of_turn(), "</s>");
}

// Without {% generation %} the answers are what rendering with and without them tells; the named forms have both.
TEST(ChatTemplateTest, AnswersAreFoundWithoutMarksInTheTemplate) {
  size_t compared = 0;
  for (const auto& [model, entry] : golden()["templates"].items()) {
    if (!entry.contains("form") || entry["form"] == "phi3") continue;
    const auto plain = parsed(entry["template"].get<std::string>()),
               marked = ChatTemplate::by_name(entry["form"].get<std::string>(), tokens());
    EXPECT_EQ(answers(plain.whole(talk(kTalk))), answers(marked.whole(talk(kTalk)))) << model;
    EXPECT_EQ(plain.end_of_turn(), marked.end_of_turn()) << model;
    ++compared;
  }
  EXPECT_GE(compared, 9u);
}

TEST(ChatTemplateTest, AnswersAreFoundWhereOlderTurnsAreShownOtherwise) {
  const auto of = [&](const char* name, const char* conversation) {
    return answers(
        parsed(golden()["templates"][name]["template"].get<std::string>()).whole(golden_conversation(conversation)));
  };
  // The thinking of the older turn is left out of the whole, that of the last one stands in it.
  EXPECT_EQ(of("Qwen 3, thinking", "thinking"), "[4<|im_end|>][<think>\nThree and three.\n</think>\n\n6<|im_end|>]");
  // What invites to answer is not what an answer begins with.
  EXPECT_EQ(of("DeepSeek R1", "two turns"), "[ It is 4. \n</s>][Yes.</s>]");
  // A call of a tool is an answer too.
  EXPECT_EQ(of("Qwen 2.5, tools", "tools"),
            "[<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"K\u00f6ln\", \"days\": [1, "
            "2]}}\n</tool_call><|im_end|>]"
            "[21.5 degrees.<|im_end|>]");
  EXPECT_EQ(of("ChatML, EOS at the end", "two turns"), "[ It is 4. \n<|im_end|>][Yes.<|im_end|>\n</s>]");
  EXPECT_EQ(of("InternLM", "assistant first"), "[ It is 4. \n<|im_end|>][\u65e5\u672c <b> & \U0001F600<|im_end|>]");
}

TEST(ChatTemplateTest, APromptIsTheBeginningOfItsAnsweredConversation) {
  for (const auto& name : ChatTemplate::names()) {
    const auto chat = ChatTemplate::by_name(name, tokens());
    const auto whole = chat.whole(talk({{"user", "Hi"}, {"assistant", "Hello."}}));
    ASSERT_EQ(whole.answers.size(), 1u) << name;
    EXPECT_EQ(whole.text.substr(0, whole.answers[0].first), chat.prompt(talk({{"user", "Hi"}}))) << name;
  }
}

TEST(ChatTemplateTest, NamedTemplatesTakeListsOfTexts) {
  const auto parts = Json::parse(
      R"([{"role": "user", "content": [{"type": "text", "text": "Hi "}, {"type": "text", "text": "you"}]}])");
  for (const auto& name : ChatTemplate::names()) {
    const auto chat = ChatTemplate::by_name(name, tokens());
    EXPECT_EQ(chat.prompt({read_messages(parts, "row"), {}, {}}), chat.prompt(talk({{"user", "Hi you"}}))) << name;
  }
}

TEST(ChatTemplateTest, VariablesAndTheDayAreGiven) {
  auto chat = parsed("{{ enable_thinking }} {{ n + 1 }} {{ word }} {{ strftime_now('%d %b %Y') }}");
  EXPECT_NE(error_of([&] { chat.text(talk(kTalk)); }), "no error");
  chat.set_variables({read_variable("enable_thinking=false"), read_variable("n=2"), read_variable("word=a b")},
                     jinja::clock_of("2024-07-26"));
  EXPECT_EQ(chat.text(talk(kTalk)), "False 3 a b 26 Jul 2024");
  chat.set_variables({read_variable("n=2")}, {});
  EXPECT_NE(error_of([&] { chat.text(talk(kTalk)); }).find("data.chat_date"), std::string::npos);
}

TEST(ChatTemplateTest, TheJinjaFileComesBeforeTheConfiguration) {
  const std::map<std::string, std::string> both{{"chat_template.jinja", "file"},
                                                {"additional_chat_templates/tool_use.jinja", "tools"}};
  const auto files = [&](const std::string& name) {
    return both.contains(name) ? std::optional(both.at(name)) : std::nullopt;
  };
  TokenizerConfig config;
  config.root = nlohmann::json::parse(
      R"({"chat_template": [{"name": "default", "template": "config"}, {"name": "rag", "template": "documents"}]})");
  using Found = std::map<std::string, std::string>;
  EXPECT_EQ(chat_templates_of(files, config, {"tool_use"}), (Found{{"default", "file"}, {"tool_use", "tools"}}));
  const auto none = [](const std::string&) { return std::optional<std::string>(); };
  EXPECT_EQ(chat_templates_of(none, config, {"tool_use"}), (Found{{"default", "config"}, {"rag", "documents"}}));
  config.root =
      nlohmann::json::parse(R"({"chat_template": "one", "bos_token": {"content": "<s>"}, "eos_token": null})");
  EXPECT_EQ(chat_templates_of(none, config, {}), (Found{{"default", "one"}}));
  const auto special = special_tokens_of(config);
  ASSERT_EQ(special.size(), 1u);
  EXPECT_EQ(special[0].first + special[0].second.text(), "bos_token<s>");
}

TEST(ConversationsTest, ShareGptIsReadAsMessages) {
  const auto turns = read_sharegpt(
      Json::parse(
          R"([{"from": "system", "value": "s"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}])"),
      "row");
  ASSERT_EQ(turns.size(), 3u);
  EXPECT_EQ(turns[0].role + turns[1].role + turns[2].role, "systemuserassistant");
  EXPECT_EQ(turns[2].text, "b");
  EXPECT_NE(error_of([] {
              read_sharegpt(Json::parse(R"([{"from": "humen", "value": "a"}])"), "a.jsonl:3");
            }).find("did you mean 'human'"),
            std::string::npos);
}

TEST(ConversationsTest, NullsAreLeftOutAndReasoningHasAllItsNames) {
  const auto turns = read_messages(
      Json::parse(R"([{"role": "assistant", "content": null, "thinking": "t", "tool_calls": null}])"), "row");
  EXPECT_EQ(jinja::repr(turns[0].value), "{'thinking': 't', 'role': 'assistant', 'reasoning_content': 't'}");
}

TEST(ConversationsTest, DeepMessagesAreAnErrorAndNoRecursion) {
  const std::string deep = std::string(1000000, '[') + std::string(1000000, ']');
  EXPECT_THROW(read_messages(Json(deep), "row"), Error);
}

TEST(ChatTemplateTest, MistakesAreNamed) {
  EXPECT_NE(error_of([] { ChatTemplate::by_name("chatnl", {}); }).find("did you mean 'chatml'"), std::string::npos);
  const auto gemma = ChatTemplate::by_name("gemma", tokens());
  EXPECT_NE(error_of([&] { gemma.prompt(talk({{"system", "x"}, {"user", "y"}})); }).find("no system message"),
            std::string::npos);
  EXPECT_NE(error_of([&] { gemma.prompt(talk({{"assistant", "x"}})); }).find("take turns"), std::string::npos);
  EXPECT_NE(error_of([&] { gemma.prompt(talk({{"tool", "x"}})); }).find("role 'tool' at place 1"), std::string::npos);
  EXPECT_NE(error_of([] { read_messages(Json::parse(R"([{"content": "x"}])"), "a.jsonl:3"); }).find("a.jsonl:3"),
            std::string::npos);
  EXPECT_NE(error_of([] {
              read_messages(Json::parse(R"([{"role": "user", "content": 5}])"), "row");
            }).find("expected a text or a list of parts, found 5"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              parsed("{% for m in messages[::-1] %}{{ m.content|length }};{% endfor %}").whole(talk(kTalk));
            }).find("{% generation %}"),
            std::string::npos);
}

}  // namespace
}  // namespace deeplora
