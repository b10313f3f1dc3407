// Oracle: tokens worked out by hand with a tokenizer whose tokens are words and marks.
#include "tasks/chat_rows.h"

#include <gtest/gtest.h>

#include <map>

#include "support/errors.h"

namespace deeplora {
namespace {

using testing::error_of;
using Ids = std::vector<int64_t>;
using Json = nlohmann::ordered_json;

/// <s> 1, </s> 2, <|im_start|> 3, <|im_end|> 4, a pair "xy" 5; any other character its code.
class MarkTokenizer : public Tokenizer {
 public:
  Encoding encode(std::string_view text, std::optional<std::string_view>, int64_t, bool = false) const override {
    Encoding out;
    out.ids = tokenize(text);
    return out;
  }
  Ids tokenize(std::string_view text) const override {
    static const std::vector<std::pair<std::string_view, int64_t>> marks{
        {"<s>", 1}, {"</s>", 2}, {"<|im_start|>", 3}, {"<|im_end|>", 4}, {"xy", 5}};
    Ids out;
    while (!text.empty()) {
      size_t length = 1;
      int64_t id = static_cast<unsigned char>(text[0]);
      for (const auto& [mark, number] : marks)
        if (text.starts_with(mark)) length = mark.size(), id = number;
      out.push_back(id);
      text.remove_prefix(length);
    }
    return out;
  }
  std::string decode(std::span<const int64_t>, bool) const override { return ""; }
  int64_t vocabulary_size() const override { return 256; }
  SpecialIds special() const override { return {.pad = 0, .bos = 1, .eos = 2}; }
  std::string piece(int64_t) const override { return ""; }
  std::string kind() const override { return "marks"; }
};

Row row(const std::string& json) { return {"rows.jsonl:7", Json::parse(json)}; }
Conversation conversation(const std::string& messages) {
  return read_conversation(row("{\"messages\": " + messages + "}"), "messages");
}

ChatTemplate chat(const std::string& text) {
  return ChatTemplate::parse(text, "template",
                             {{"bos_token", jinja::Value("<s>")}, {"eos_token", jinja::Value("</s>")}});
}

const char* kBosChatMl =
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role[0] + m.content + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>a' }}{% endif %}";
const std::string kLong =
    R"([{"role": "system", "content": "S"}, {"role": "user", "content": "1"}, {"role": "assistant", "content": "2"},
  {"role": "user", "content": "3"}, {"role": "assistant", "content": "4"}, {"role": "user", "content": "5"}, {"role": "assistant", "content": "6"}])";

TEST(ChatRowsTest, AnswersAndTheirEndMarksAreLearnt) {
  const auto out = tokens_of_answers(conversation(kLong), chat(kBosChatMl), MarkTokenizer(), 100);
  Ids learnt;
  for (size_t t = 0; t < out.ids.size(); ++t)
    if (out.learnt[t]) learnt.push_back(out.ids[t]);
  EXPECT_EQ(learnt, (Ids{'2', 4, '4', 4, '6', 4}));
  EXPECT_EQ(out.last_answer, out.ids.size() - 2);
  EXPECT_EQ(out.fixed, 1u);
  EXPECT_FALSE(out.shortened);
  EXPECT_EQ(Ids(out.ids.begin(), out.ids.begin() + static_cast<std::ptrdiff_t>(out.last_answer)), out.prompt);
}

TEST(ChatRowsTest, WholeOldestTurnsGoBehindTheFirstTokenAndTheSystemText) {
  const MarkTokenizer tokenizer;
  const auto form = chat(kBosChatMl);
  // <s>, then four tokens a message: 29 in all.
  const auto rendered = [&](const std::string& text) { return tokenizer.tokenize(text); };
  const std::string system = "<s><|im_start|>sS<|im_end|>", second = "<|im_start|>u3<|im_end|><|im_start|>a4<|im_end|>",
                    third = "<|im_start|>u5<|im_end|><|im_start|>a6<|im_end|>";
  for (size_t most = 1; most < 29; ++most) {
    const auto out = tokens_of_answers(conversation(kLong), form, tokenizer, most);
    EXPECT_TRUE(out.shortened);
    EXPECT_EQ(out.ids, rendered(most >= 21 ? system + second + third : system + third)) << most;
  }
  EXPECT_EQ(tokens_of_answers(conversation(kLong), form, tokenizer, 29).ids.size(), 29u);
  const auto question = tokens_of_question(conversation(kLong), form, tokenizer, 14);
  EXPECT_EQ(question.ids, rendered(system + "<|im_start|>u5<|im_end|><|im_start|>a"));
  EXPECT_TRUE(question.shortened);
  EXPECT_EQ(question.fixed, 1u);
}

TEST(ChatRowsTest, ATokenAcrossTheBorderOfAnAnswerIsLearntAndTokensAreThoseOfTheWholeText) {
  // "x" ends what comes before the answer "y", and both are one token; so for its end.
  const auto form = chat(
      "{% for m in messages %}{{ m.role[0] + ':' }}{% if m.role == 'assistant' %}x{% generation %}{{ m.content }}{% "
      "endgeneration %}y{% else %}"
      "{{ m.content }}{% endif %}{% endfor %}");
  const auto out =
      tokens_of_answers(conversation(R"([{"role": "user", "content": "q"}, {"role": "assistant", "content": "y.x"}])"),
                        form, MarkTokenizer(), 100);
  EXPECT_EQ(out.ids, (Ids{'u', ':', 'q', 'a', ':', 5, '.', 5}));
  EXPECT_EQ(out.learnt, (std::vector<bool>{false, false, false, false, false, true, true, true}));
}

TEST(ChatRowsTest, PublishedRowsAreTheSameConversation) {
  const MarkTokenizer tokenizer;
  const auto form = ChatTemplate::by_name("chatml", {});
  const auto wanted =
      tokens_of_answers(conversation(R"([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])"),
                        form, tokenizer, 100)
          .ids;
  const auto sharegpt = row(R"({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]})");
  EXPECT_EQ(tokens_of_answers(read_conversation(sharegpt, "messages"), form, tokenizer, 100).ids, wanted);
  const auto as_text = row(
      R"({"messages": "[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}]}, {\"role\": \"assistant\", \"content\": \"b\"}]"})");
  EXPECT_EQ(tokens_of_answers(read_conversation(as_text, "messages"), form, tokenizer, 100).ids, wanted);
  auto alpaca = alpaca_conversation(row(R"({"instruction": "a", "input": "", "output": "b"})"));
  alpaca.messages.push_back(make_message("assistant", "b"));
  EXPECT_EQ(tokens_of_answers(alpaca, form, tokenizer, 100).ids, wanted);
  const auto system =
      read_conversation(row(R"({"system": "s", "conversations": [{"from": "human", "value": "a"}]})"), "messages");
  EXPECT_EQ(system.messages.front().role, "system");
  EXPECT_EQ(alpaca_conversation(row(R"({"instruction": "a", "input": "b"})")).messages[0].text, "a\nb");
  EXPECT_NE(alpaca_prompt("do", "it").find("### Input:\nit\n\n### Response:"), std::string::npos);
}

TEST(ChatRowsTest, ConversationsInAnyOrderOfRoles) {
  const auto out = tokens_of_answers(
      conversation(
          R"([{"role": "assistant", "content": "1"}, {"role": "user", "content": "2"}, {"role": "user", "content": "3"},
    {"role": "system", "content": "4"}, {"role": "assistant", "content": "5"}, {"role": "user", "content": "6"}])"),
      chat(kBosChatMl), MarkTokenizer(), 100);
  Ids learnt;
  for (size_t t = 0; t < out.ids.size(); ++t)
    if (out.learnt[t]) learnt.push_back(out.ids[t]);
  EXPECT_EQ(learnt, (Ids{'1', 4, '5', 4}));
}

TEST(ChatRowsTest, WhatATemplateCannotTakeIsAnError) {
  const MarkTokenizer tokenizer;
  const auto complain = [&](const std::string& messages, const std::string& text) {
    return error_of([&] { tokens_of_answers(conversation(messages), chat(text), tokenizer, 100); });
  };
  EXPECT_NE(complain(R"([{"role": "user", "content": null}, {"role": "assistant", "content": "b"}])", kBosChatMl)
                .find("has no attribute 'content'"),
            std::string::npos)
      << complain(R"([{"role": "user", "content": null}, {"role": "assistant", "content": "b"}])", kBosChatMl);
  const std::string parts =
      R"([{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant", "content": "b"}])";
  EXPECT_NE(complain(parts, "{% for m in messages %}{{ m.content }}{% endfor %}").find("prints this list of parts"),
            std::string::npos);
  EXPECT_NE(complain(R"([{"role": "user", "content": "a"}])", kBosChatMl).find("no message of the assistant"),
            std::string::npos);
  EXPECT_NE(error_of([] {
              read_conversation(row(R"({"conversations": [{"from": "robot", "value": "a"}]})"), "messages");
            }).find("rows.jsonl:7: conversations: from 'robot'"),
            std::string::npos);
  EXPECT_NE(error_of([] {
              alpaca_conversation(row(R"({"instruction": 5})"));
            }).find("rows.jsonl:7: instruction: expected a text, found 5"),
            std::string::npos);
}

}  // namespace
}  // namespace deeplora
