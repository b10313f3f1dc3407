// Tasks causal-lm and seq2seq. Oracles: ids worked out by hand, cross_entropy of the answer's tokens alone, and
// autograd.
#include "tasks/language_task.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "support/tiny_archive.h"
#include "tasks/registration.h"
#include "tasks/token_loss.h"

namespace deeplora {
namespace {

using Ids = std::vector<int64_t>;
using testing::error_of;

/// An id a letter (a = 10, b = 11, ...; others 9); <s> 2 before and, for targets, </s> 1 after; two chat marks.
class LetterTokenizer : public Tokenizer {
 public:
  explicit LetterTokenizer(bool ends) : ends_(ends) {}
  Encoding encode(std::string_view text, std::optional<std::string_view>, int64_t max_length,
                  bool = false) const override {
    Encoding out;
    out.ids = tokenize(text);
    const size_t room = static_cast<size_t>(max_length) - 1;
    out.truncated = max_length > 0 && out.ids.size() > room;
    if (out.truncated) out.ids.resize(room);
    if (ends_) out.ids.push_back(1);
    else out.ids.insert(out.ids.begin(), 2);
    return out;
  }
  Ids tokenize(std::string_view text) const override {
    Ids out;
    for (size_t i = 0; i < text.size();) {
      bool mark = false;
      for (const auto& [word, id] :
           std::vector<std::pair<std::string_view, int64_t>>{{"<|im_start|>", 3}, {"<|im_end|>", 4}})
        if (text.substr(i).starts_with(word)) {
          out.push_back(id);
          i += word.size();
          mark = true;
        }
      if (mark) continue;
      const char c = text[i++];
      out.push_back(c >= 'a' && c <= 'z' ? c - 'a' + 10 : 9);
    }
    return out;
  }
  std::string decode(std::span<const int64_t> ids, bool) const override {
    std::string out;
    for (const int64_t id : ids) out += id >= 10 ? static_cast<char>('a' + id - 10) : ' ';
    return out;
  }
  int64_t vocabulary_size() const override { return 36; }
  SpecialIds special() const override { return {.pad = 0, .bos = 2, .eos = 1}; }
  std::string piece(int64_t) const override { return ""; }
  std::string kind() const override { return "letters"; }

 private:
  bool ends_;
};

const char* kChatMl =
    R"({"chat_template": "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %})"
    R"({% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"})";

std::unique_ptr<Task> make(const std::string& name, const std::string& yaml,
                           nlohmann::json config = {{"n_positions", 64}}, const std::string& files = kChatMl) {
  Tasks tasks("task");
  register_tasks(tasks);
  const Config data = Config::parse(yaml);
  auto task = tasks.at(name)(data);
  data.finish();
  const bool decoder = name == "seq2seq";
  if (decoder) config["decoder_start_token_id"] = 7;
  task->set_pad_id(0);
  task->use_model({.config = {"config.json", config},
                   .generation_config = {},
                   .tokenizer_files =
                       [files](const std::string& file) {
                         return file == "tokenizer_config.json" ? std::optional(files) : std::nullopt;
                       },
                   .tokenizer = std::make_shared<LetterTokenizer>(decoder),
                   .has_decoder = decoder});
  return task;
}

Row row(nlohmann::ordered_json fields, bool is_line = false) {
  static int line = 0;
  return {cat("rows.jsonl:", ++line), std::move(fields), is_line};
}

Example encode(const Task& task, nlohmann::ordered_json fields, bool labelled = true) {
  return task.encode(row(std::move(fields)), nullptr, labelled);
}

Ids ids_of(const torch::Tensor& t) {
  const torch::Tensor flat = t.flatten().contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

constexpr int64_t no = kIgnored;

TEST(CausalLmTest, ACompletionIsLearntAndItsPromptIsNot) {
  const auto task = make("causal-lm", "{}");
  const Example e = encode(*task, {{"prompt", "ab"}, {"completion", "cd"}});
  EXPECT_EQ(e.input_ids, (Ids{2, 10, 11, 12, 13, 1}));
  EXPECT_EQ(e.label_ids, (Ids{no, no, no, 12, 13, 1}));
  EXPECT_EQ(e.prompt_ids, (Ids{2, 10, 11}));
  EXPECT_EQ(e.references, std::vector<std::string>{"cd"});
  const Example open = encode(*task, {{"prompt", "ab"}}, false);
  EXPECT_EQ(open.prompt_ids, e.prompt_ids);
  const Example other = encode(*task, {{"prompt", "x"}, {"completion", "y"}});
  const std::vector<const Example*> both{&e, &other};
  const Batch batch = task->collate(both);
  EXPECT_EQ(ids_of(batch.labels), (Ids{no, no, 12, 13, 1, no, no, 34, 1, no, no, no}));  // what each place predicts
  EXPECT_EQ(ids_of(batch.attention_mask[1]), (Ids{1, 1, 1, 1, 0, 0}));
  EXPECT_EQ(task->loss_count(batch), 5);
}

TEST(CausalLmTest, TheLossIsTheCrossEntropyOfTheCompletionAlone) {
  const auto task = make("causal-lm", "{}");
  const Example e = encode(*task, {{"prompt", "abc"}, {"completion", "de"}});
  const std::vector<const Example*> one{&e};
  Batch batch = task->collate(one);
  torch::manual_seed(2);
  torch::Tensor logits = torch::randn({1, 7, 36}).requires_grad_();
  const torch::Tensor loss = task->loss_sum({.hidden = {}, .logits = logits}, batch);
  loss.backward();
  const torch::Tensor expected = torch::cross_entropy_loss(
      logits[0].slice(0, 3, 6), torch::tensor({13, 14, 1}, torch::kInt64), {}, at::Reduction::Sum);
  EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-5);
  EXPECT_EQ(logits.grad()[0].slice(0, 0, 3).abs().max().item<float>(), 0.0F) << "prompt tokens have a gradient";
  EXPECT_EQ(logits.grad()[0][6].abs().max().item<float>(), 0.0F);
  // Other prompt tokens, the same logits: the same loss.
  const Example changed = encode(*task, {{"prompt", "xyz"}, {"completion", "de"}});
  const std::vector<const Example*> again{&changed};
  EXPECT_EQ(task->loss_sum({.hidden = {}, .logits = logits}, task->collate(again)).item<float>(), loss.item<float>());
}

TEST(CausalLmTest, PlainTextIsPackedWithEndTokensBetweenDocuments) {
  const auto task = make("causal-lm", "{max_length: 4}");
  std::vector<Row> lines{row({{"text", "ab"}}, true), row({{"text", "c"}}, true), row({{"text", " "}}, true),
                         row({{"text", "de"}}, true)};
  const auto documents = task->documents(lines);
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[0].fields["text"], "ab\nc");
  std::vector<Example> examples;
  for (const auto& document : documents) examples.push_back(task->encode(document, nullptr, true));
  const auto blocks = task->arrange(examples, "rows");
  ASSERT_EQ(blocks.size(), 3u);
  EXPECT_EQ(blocks[0].input_ids, (Ids{2, 10, 11, 9}));
  EXPECT_EQ(blocks[1].input_ids, (Ids{12, 1, 2, 13}));
  EXPECT_EQ(blocks[2].input_ids, (Ids{14, 1}));
  EXPECT_EQ(blocks[1].label_ids, (Ids{12, 1, 2, 13}));
}

TEST(CausalLmTest, WithoutPackingEveryLineIsAnExampleAndLongOnesAreCutAndMarked) {
  const auto task = make("causal-lm", "{max_length: 4, pack: false}");
  const auto rows =
      task->documents({row({{"text", "abcdef"}}, true), row({{"text", ""}}, true), row({{"text", "b"}}, true)});
  ASSERT_EQ(rows.size(), 2u);
  const Example e = task->encode(rows[0], nullptr, true);
  EXPECT_EQ(e.input_ids, (Ids{2, 10, 11, 12}));
  EXPECT_TRUE(e.truncated);
  EXPECT_EQ(task->arrange({e, task->encode(rows[1], nullptr, true)}, "rows").size(), 2u);
}

TEST(CausalLmTest, ALongPromptLosesItsBeginningAndACompletionIsNeverCutUnasked) {
  const auto task = make("causal-lm", "{max_length: 6}");
  const Example e = encode(*task, {{"prompt", "abcdef"}, {"completion", "xy"}});
  EXPECT_EQ(e.input_ids, (Ids{2, 14, 15, 33, 34, 1}));
  EXPECT_EQ(e.label_ids, (Ids{no, no, no, 33, 34, 1}));
  EXPECT_TRUE(e.truncated);
  const std::string error = error_of([&] { encode(*task, {{"prompt", "a"}, {"completion", "uvwxyz"}}); });
  EXPECT_NE(error.find("the answer has 7 tokens, but 5 fit"), std::string::npos) << error;
  const auto cut = make("causal-lm", "{max_length: 6, too_long: cut}");
  EXPECT_EQ(encode(*cut, {{"prompt", "a"}, {"completion", "uvwxyz"}}).input_ids.size(), 6u);
  const auto drop = make("causal-lm", "{max_length: 6, too_long: drop}");
  const auto kept = drop->arrange({encode(*drop, {{"prompt", "a"}, {"completion", "uvwxyz"}}), e}, "rows");
  EXPECT_EQ(kept.size(), 1u);
}

TEST(CausalLmTest, RowsWithNothingToPredictAreLeftOutAndOnlyThoseIsAnError) {
  const auto task = make("causal-lm", "{}");
  const Example empty = encode(*task, {{"prompt", "a"}, {"completion", ""}}),
                good = encode(*task, {{"prompt", "a"}, {"completion", "b"}});
  EXPECT_EQ(task->arrange({empty, good}, "rows").size(), 1u);
  EXPECT_NE(error_of([&] { task->arrange({empty}, "rows"); }).find("no row holds anything to predict"),
            std::string::npos);
}

TEST(CausalLmTest, EveryAnswerOfAConversationIsLearnt) {
  const auto task = make("causal-lm", "{}");
  const Row talk = row({{"messages",
                         {{{"role", "user"}, {"content", "a"}},
                          {{"role", "assistant"}, {"content", "b"}},
                          {{"role", "user"}, {"content", "c"}},
                          {{"role", "assistant"}, {"content", "d"}}}}});
  task->fit(std::span(&talk, 1), std::span(&talk, 1));
  const Example e = task->encode(talk, nullptr, true);
  Ids predicted;
  for (const int64_t id : e.label_ids)
    if (id != no) predicted.push_back(id);
  EXPECT_EQ(predicted, (Ids{11, 4, 13, 4}));
  EXPECT_EQ(e.references, std::vector<std::string>{"d"});
  // The prompt is the conversation up to the last answer, as predict() builds it from the messages before.
  auto before = talk.fields;
  before["messages"].erase(3);
  EXPECT_EQ(encode(*task, before, false).prompt_ids, e.prompt_ids);
  // A plain prompt to a model that was trained on conversations is a user's message.
  const Ids prompt = encode(*task, {{"prompt", "a"}}, false).prompt_ids;
  EXPECT_EQ(prompt.front(), 3);
  const auto restored = make("causal-lm", "{}");
  restored->restore({"task.json", task->state()});
  EXPECT_EQ(encode(*restored, {{"prompt", "a"}}, false).prompt_ids, prompt);
}

TEST(CausalLmTest, PromptsTakeAChatTemplateWhenAsked) {
  const auto task = make("causal-lm", "{chat_template: chatml}", nlohmann::json::object(), "{}");
  const Example e = encode(*task, {{"prompt", "a"}, {"completion", "b"}});
  EXPECT_EQ(e.input_ids.front(), 3);
  EXPECT_EQ(e.label_ids[e.label_ids.size() - 3], 11);
  const auto without = make("causal-lm", "{}", nlohmann::json::object(), "{}");
  const std::string error =
      error_of([&] { encode(*without, {{"messages", {{{"role", "user"}, {"content", "a"}}}}}, false); });
  EXPECT_NE(error.find("brings no chat template; choose one with data.chat_template: chatml"), std::string::npos)
      << error;
  const auto strange = make("causal-lm", "{}", nlohmann::json::object(), R"({"chat_template": "{{ x"})");
  EXPECT_NE(error_of([&] {
              encode(*strange, {{"messages", {{{"role", "user"}, {"content", "a"}}}}}, false);
            }).find("template, line 1, column"),
            std::string::npos);
}

nlohmann::ordered_json said(const std::string& role, const std::string& text) {
  return {{"role", role}, {"content", text}};
}

TEST(CausalLmTest, PublishedRowsOfEveryKindAreLearnt) {
  const auto task = make("causal-lm", "{chat_template: chatml}", nlohmann::json::object(), "{}");
  const Example messages = encode(*task, {{"messages", {said("user", "a"), said("assistant", "b")}}});
  const Example sharegpt =
      encode(*task, {{"conversations", {{{"from", "human"}, {"value", "a"}}, {{"from", "gpt"}, {"value", "b"}}}}});
  const Example alpaca = encode(*task, {{"instruction", "a"}, {"input", ""}, {"output", "b"}});
  const Example parts = encode(
      *task,
      {{"messages", {{{"role", "user"}, {"content", {{{"type", "text"}, {"text", "a"}}}}}, said("assistant", "b")}}});
  for (const auto* other : {&sharegpt, &alpaca, &parts}) {
    EXPECT_EQ(other->input_ids, messages.input_ids);
    EXPECT_EQ(other->label_ids, messages.label_ids);
    EXPECT_EQ(other->prompt_ids, messages.prompt_ids);
    EXPECT_EQ(other->references, messages.references);
  }
  // Without a template, the prompt that Alpaca's models know.
  const auto plain = make("causal-lm", "{}", nlohmann::json::object(), "{}");
  const Example words = encode(*plain, {{"instruction", "a"}, {"input", "c"}, {"output", "b"}});
  EXPECT_GT(words.prompt_ids.size(), 150u);
  EXPECT_EQ(words.input_ids[words.input_ids.size() - 2], 11);
  EXPECT_EQ(words.label_ids[words.label_ids.size() - 2], 11);
  // Equal roles in a row, an assistant first, a system text in the middle, a last turn that is not answered.
  const Example odd = encode(*task, {{"messages",
                                      {said("assistant", "a"), said("user", "b"), said("user", "c"),
                                       said("system", "d"), said("assistant", "e"), said("user", "f")}}});
  Ids predicted;
  for (const int64_t id : odd.label_ids)
    if (id != no) predicted.push_back(id);
  EXPECT_EQ(predicted, (Ids{10, 4, 14, 4}));
}

TEST(CausalLmTest, WhatATemplateCannotTakeIsTheRowsError) {
  const auto task = make("causal-lm", "{}", nlohmann::json::object(),
                         R"({"chat_template": "{% for m in messages %}{{ m.role + m.content }}{% endfor %}"})");
  const auto complain = [&](nlohmann::ordered_json fields) {
    return error_of([&] { encode(*task, std::move(fields)); });
  };
  EXPECT_NE(
      complain({{"messages", {{{"role", "user"}, {"content", nullptr}}, said("assistant", "b")}}}).find("rows.jsonl:"),
      std::string::npos);
  EXPECT_NE(complain({{"messages", {said("user", "a")}}}).find("no message of the assistant"), std::string::npos);
  EXPECT_NE(complain({{"conversations", {{{"from", "robot"}, {"value", "a"}}}}}).find("from 'robot' is not known"),
            std::string::npos);
  const auto printing = make("causal-lm", "{}", nlohmann::json::object(),
                             R"({"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"})");
  const nlohmann::ordered_json parts{
      {"messages", {{{"role", "user"}, {"content", {{{"type", "text"}, {"text", "a"}}}}}, said("assistant", "b")}}};
  EXPECT_NE(error_of([&] { encode(*printing, parts); }).find("prints this list of parts as it is"), std::string::npos);
}

TEST(CausalLmTest, LongConversationsLoseTheirOldestTurnsBehindTheSystemText) {
  const auto task =
      make("causal-lm", "{chat_template: chatml, max_length: 40, too_long: cut}", nlohmann::json::object(), "{}");
  std::vector<nlohmann::ordered_json> turns{said("system", "z")};
  for (const char* text : {"abc", "def", "ghi"}) {
    turns.push_back(said("user", text));
    turns.push_back(said("assistant", text));
  }
  const Example cut = encode(*task, {{"messages", turns}});
  turns.erase(turns.begin() + 1, turns.begin() + 5);
  const Example rest = encode(*task, {{"messages", turns}});
  EXPECT_TRUE(cut.truncated);
  EXPECT_FALSE(rest.truncated);
  EXPECT_EQ(cut.input_ids, rest.input_ids);
  EXPECT_EQ(cut.label_ids, rest.label_ids);
  EXPECT_EQ(cut.prompt_ids, rest.prompt_ids);
}

TEST(CausalLmTest, APromptTemplateFillsInColumns) {
  const auto task = make("causal-lm", "{prompt_template: 'x{b}y{a}', completion: c}");
  EXPECT_EQ(encode(*task, {{"a", "p"}, {"b", "q"}, {"c", "r"}}).prompt_ids, (Ids{2, 33, 26, 34, 25}));
  EXPECT_EQ(task->columns(true), (std::vector<std::string>{"b", "a", "c"}));
}

TEST(CausalLmTest, RowsMayBringTheirOwnIdsAndLabels) {
  const auto task = make("causal-lm", "{}");
  const Example e = encode(*task, {{"input_ids", {5, 6, 7}}, {"labels", {-100, 6, 7}}});
  EXPECT_EQ(e.label_ids, (Ids{no, 6, 7}));
  EXPECT_EQ(e.prompt_ids, Ids{5});
  EXPECT_NE(
      error_of([&] { encode(*task, {{"input_ids", {5, 6}}, {"labels", {6}}}); }).find("labels: expected 2 values"),
      std::string::npos);
}

TEST(CausalLmTest, SeveralReferencesAreKept) {
  const auto task = make("causal-lm", "{}");
  const Example list = encode(*task, {{"prompt", "a"}, {"completion", {"b", "c"}}});
  EXPECT_EQ(list.references, (std::vector<std::string>{"b", "c"}));
  EXPECT_EQ(list.label_ids, (Ids{no, no, 11, 1}));
  const Example further = encode(*task, {{"prompt", "a"}, {"completion", "b"}, {"references", {"c", "b"}}});
  EXPECT_EQ(further.references, (std::vector<std::string>{"b", "c"}));
}

TEST(Seq2SeqTest, TheDecoderReadsTheTargetShiftedByItsStart) {
  const auto task = make("seq2seq", "{text: source, prompt_template: 'a{source}'}");
  const Example e = encode(*task, {{"source", "bc"}, {"target", "xyz"}}),
                f = encode(*task, {{"source", "d"}, {"target", "q"}});
  EXPECT_EQ(e.input_ids, (Ids{10, 11, 12, 1}));
  EXPECT_EQ(e.label_ids, (Ids{33, 34, 35, 1}));
  const std::vector<const Example*> both{&e, &f};
  const Batch batch = task->collate(both);
  EXPECT_EQ(ids_of(batch.decoder_input_ids), (Ids{7, 33, 34, 35, 7, 26, 1, 0}));
  EXPECT_EQ(ids_of(batch.labels), (Ids{33, 34, 35, 1, 26, 1, no, no}));
  EXPECT_EQ(ids_of(batch.attention_mask), (Ids{1, 1, 1, 1, 1, 1, 1, 0}));
  EXPECT_EQ(task->loss_count(batch), 6);
}

TEST(Seq2SeqTest, TargetsAreNotCutUnasked) {
  const auto task = make("seq2seq", "{max_length: 4, max_target_length: 3}");
  EXPECT_TRUE(encode(*task, {{"text", "abcdef"}, {"target", "xy"}}).truncated);
  EXPECT_NE(
      error_of([&] { encode(*task, {{"text", "a"}, {"target", "xyz"}}); }).find("the target has 4 tokens, but 3 fit"),
      std::string::npos);
}

TEST(LanguageTaskTest, ModelsOfTheOtherKindAreRefused) {
  Tasks tasks("task");
  register_tasks(tasks);
  TaskModel decoder{.config = {"config.json", {{"decoder_start_token_id", 0}}},
                    .generation_config = {},
                    .tokenizer_files = {},
                    .tokenizer = nullptr,
                    .has_decoder = true};
  EXPECT_NE(error_of([&] { tasks.at("causal-lm")(Config::parse("{}"))->use_model(decoder); }).find("use seq2seq"),
            std::string::npos);
  decoder.has_decoder = false;
  EXPECT_NE(error_of([&] { tasks.at("seq2seq")(Config::parse("{}"))->use_model(decoder); }).find("use causal-lm"),
            std::string::npos);
}

TEST(LanguageTaskTest, MistakesInGenerationKeysAreNamed) {
  Tasks tasks("task");
  register_tasks(tasks);
  const auto complain = [&](const std::string& yaml) {
    return error_of([&] {
      const Config data = Config::parse(yaml);
      tasks.at("causal-lm")(data);
      data.finish();
    });
  };
  EXPECT_NE(complain("{generation: {top_p: 0.9}}").find("temperature"), std::string::npos);
  EXPECT_NE(complain("{generation: {beams: 2, temperature: 1}}").find("beam search does not sample"),
            std::string::npos);
  EXPECT_NE(complain("{generation: {max_new_token: 2}}").find("max_new_tokens"), std::string::npos);
  EXPECT_NE(complain("{generate: always}").find("generate"), std::string::npos);
  EXPECT_NE(complain("{chat_template: chatm}").find("chatml"), std::string::npos);
}

/// Always continues with b, then the end.
class Echo : public LanguageModel {
 public:
  ModelOutput forward(const Batch& batch) override {
    const torch::Tensor& ids = batch.input_ids;
    const torch::Tensor next = torch::where(ids == 11, torch::ones_like(ids), torch::full_like(ids, 11));
    return {.hidden = {}, .logits = torch::one_hot(next, 36).to(torch::kFloat32) * 30};
  }
  std::vector<AdapterSite> sites() override { return {}; }
  std::vector<NamedTensor> base_parameters() override { return {}; }
  std::string family() const override { return "echo"; }
};

TEST(LanguageTaskTest, RowsWithTheSamePromptAreOneTextWithSeveralReferences) {
  const auto task = make("causal-lm", "{metric: exact_match}");
  const std::vector<Example> rows{encode(*task, {{"prompt", "a"}, {"completion", "c"}}),
                                  encode(*task, {{"prompt", "a"}, {"completion", "b"}}),
                                  encode(*task, {{"prompt", "d"}, {"completion", "e"}})};
  Echo model;
  const Scores scores = task->evaluate(model, rows, {});
  EXPECT_EQ(scores.headline_name(), "exact_match");
  EXPECT_TRUE(scores.higher_is_better);
  EXPECT_DOUBLE_EQ(scores.headline(), 0.5);  // two prompts, of which "a" may be answered by b
  EXPECT_EQ(task->predict(model, std::span(rows).first(1), {}).at(0).dump(), R"({"text":"b"})");
}

TEST(LanguageTaskTest, LossAndPerplexityAreOverTokens) {
  const auto task = make("causal-lm", "{}");
  const std::vector<Example> rows{encode(*task, {{"prompt", "a"}, {"completion", "b"}}),
                                  encode(*task, {{"prompt", "a"}, {"completion", "cc"}})};
  Echo model;
  const Scores scores = task->evaluate(model, rows, {.batch_size = 1});
  ASSERT_EQ(scores.headline_name(), "loss");
  EXPECT_FALSE(scores.higher_is_better);
  EXPECT_NEAR(scores.headline(), 30.0 * 3 / 5, 1e-4);  // c, c and the end after c are what the model never says
  EXPECT_NEAR(scores.values.at(1).second, std::exp(18.0), std::exp(18.0) * 1e-3);
  EXPECT_EQ(scores.values.size(), 2u);
}

}  // namespace
}  // namespace deeplora
