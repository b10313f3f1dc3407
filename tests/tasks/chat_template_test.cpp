// Oracle: tests/golden/chat_templates.json, transformers' apply_chat_template (tests/golden/make/chat.py).
#include "tasks/chat_template.h"

#include <gtest/gtest.h>


#include "core/error.h"
#include "core/files.h"
#include "support/errors.h"

namespace deeplora {
namespace {

std::string joined(const std::vector<ChatPart>& parts) {
  std::string out;
  for (const auto& part : parts) out += part.text;
  return out;
}

std::string answers(const std::vector<ChatPart>& parts) {
  std::string out;
  for (const auto& part : parts)
    if (part.predicted) out += "[" + part.text + "]";
  return out;
}

using testing::error_of;

TEST(ChatTemplateTest, PublishedTemplatesAreRecognisedAndRenderedAsTransformersDoes) {
  const auto golden = nlohmann::ordered_json::parse(read_file(DEEPLORA_TEST_DATA "/golden/chat_templates.json"));
  size_t rows = 0;
  for (const auto& row : golden["rows"]) {
    const auto form = ChatTemplate::recognise(row["template"].get<std::string>(), "<s>", "</s>");
    const std::string where = row["model"].get<std::string>() + ", " + row["conversation"].get<std::string>();
    EXPECT_EQ(form.name(), row["form"].get<std::string>()) << where;
    const auto messages = read_messages(row["messages"], "row");
    EXPECT_EQ(joined(form.render(messages, row["open"].get<bool>())), row["text"].get<std::string>()) << where;
    ++rows;
  }
  EXPECT_EQ(rows, 51u);
}

TEST(ChatTemplateTest, OnlyAnswersAndTheirEndMarksAreLearnt) {
  const std::vector<ChatMessage> talk{{"user", "Hi"}, {"assistant", "Hello."}, {"user", "Bye"}, {"assistant", "See you."}};
  EXPECT_EQ(answers(ChatTemplate::by_name("chatml", "", "").render(talk, false)), "[Hello.<|im_end|>][See you.<|im_end|>]");
  EXPECT_EQ(answers(ChatTemplate::by_name("llama2", "<s>", "</s>").render(talk, false)), "[ Hello. </s>][ See you. </s>]");
  EXPECT_EQ(ChatTemplate::by_name("chatml", "", "").end_of_turn(), "<|im_end|>");
  EXPECT_EQ(ChatTemplate::by_name("mistral", "<s>", "</s>").end_of_turn(), "</s>");
}

TEST(ChatTemplateTest, APromptIsTheBeginningOfItsAnsweredConversation) {
  for (const auto& name : ChatTemplate::names()) {
    const auto form = ChatTemplate::by_name(name, "<s>", "</s>");
    const auto open = form.render({{"user", "Hi"}}, true);
    const auto whole = form.render({{"user", "Hi"}, {"assistant", "Hello."}}, false);
    ASSERT_EQ(open.size(), 1u) << name;
    EXPECT_EQ(whole.front().text, open.front().text) << name;
  }
}

TEST(ChatTemplateTest, DeepMessagesAreAnErrorAndNoRecursion) {
  const std::string deep = std::string(1000000, '[') + std::string(1000000, ']');
  EXPECT_THROW(read_messages(nlohmann::ordered_json(deep), "row"), Error);
}

TEST(ChatTemplateTest, MistakesAreNamed) {
  EXPECT_NE(error_of([] { ChatTemplate::recognise("{{ messages }}", "", ""); }).find("known forms (chatml, gemma"), std::string::npos);
  EXPECT_NE(error_of([] { ChatTemplate::by_name("chatnl", "", ""); }).find("did you mean 'chatml'"), std::string::npos);
  const auto gemma = ChatTemplate::by_name("gemma", "", "");
  EXPECT_NE(error_of([&] { gemma.render({{"system", "x"}, {"user", "y"}}, true); }).find("no system message"), std::string::npos);
  EXPECT_NE(error_of([&] { gemma.render({{"assistant", "x"}}, true); }).find("take turns"), std::string::npos);
  EXPECT_NE(error_of([&] { gemma.render({{"tool", "x"}}, true); }).find("role 'tool' at place 1"), std::string::npos);
  EXPECT_NE(error_of([] { read_messages(nlohmann::ordered_json::parse(R"([{"role": "user"}])"), "a.jsonl:3"); }).find("a.jsonl:3"), std::string::npos);
}

}  // namespace
}  // namespace deeplora
