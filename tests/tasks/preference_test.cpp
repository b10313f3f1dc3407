// Task preference. Oracles: tests/golden/preference.json (TRL's formulas in PyTorch and PEFT's gradients, in float64),
// and rows worked out by hand.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "lm/adapt.h"
#include "lm/targets.h"
#include "model_files/registration.h"
#include "models/registration.h"
#include "support/tensors.h"
#include "support/tiny_archive.h"
#include "tasks/preference_loss.h"
#include "tasks/registration.h"
#include "train/train_step.h"

namespace deeplora {
namespace {

using Json = nlohmann::ordered_json;
using Ids = std::vector<int64_t>;
using testing::error_of;
using testing::golden;
using testing::tensor_from;

std::unique_ptr<Task> preference(const std::string& yaml) {
  Tasks tasks("task");
  register_tasks(tasks);
  const Config data = Config::parse(yaml);
  auto task = tasks.at("preference")(data);
  data.finish();
  task->set_pad_id(0);
  return task;
}

/// Ids are bytes; "@" begins every text, "~" ends one.
class ByteTokenizer : public Tokenizer {
 public:
  Encoding encode(std::string_view text, std::optional<std::string_view>, int64_t, bool = false) const override {
    Encoding out;
    out.ids = tokenize(cat("@", text));
    return out;
  }
  Ids tokenize(std::string_view text) const override { return {text.begin(), text.end()}; }
  std::string decode(std::span<const int64_t> ids, bool) const override { return {ids.begin(), ids.end()}; }
  int64_t vocabulary_size() const override { return 128; }
  SpecialIds special() const override { return {.pad = 0, .bos = '@', .eos = '~'}; }
  std::string piece(int64_t) const override { return ""; }
  std::string kind() const override { return "bytes"; }
};

const char* kTemplate = R"({"chat_template": "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}$\n{% endfor %})"
                        R"({% if add_generation_prompt %}<a>{% endif %}"})";

std::unique_ptr<Task> of_texts(const std::string& yaml = "{}") {
  auto task = preference(yaml);
  task->use_model({.config = {"config.json", {{"n_positions", 200}}},
                   .generation_config = {},
                   .tokenizer_files =
                       [](const std::string& file) {
                         return file == "tokenizer_config.json" ? std::optional<std::string>(kTemplate) : std::nullopt;
                       },
                   .tokenizer = std::make_shared<ByteTokenizer>()});
  return task;
}

/// What a pair is as text: both sequences, "|" between them, and "." where a token is not learnt.
struct Shown {
  std::string text, learnt, prompt;
};
Shown shown_of(const Example& e) {
  const auto text = [](const Ids& ids) { return std::string(ids.begin(), ids.end()); };
  Shown out{text(e.input_ids), "", text(e.prompt_ids)};
  for (const int64_t id : e.label_ids) out.learnt += id == kIgnored ? '.' : static_cast<char>(id);
  for (auto* one : {&out.text, &out.learnt})
    if (e.second > 0) one->insert(e.second, "|");
  return out;
}
Shown encoded(const Task& task, Json fields, bool labelled = true) {
  return shown_of(task.encode({"pairs.jsonl:7", std::move(fields)}, nullptr, labelled));
}
std::string mistake(const Task& task, Json fields) {
  return error_of([&] { encoded(task, std::move(fields)); });
}

Json said(const std::string& role, const std::string& text) { return {{"role", role}, {"content", text}}; }

TEST(PreferenceTest, TextsAreAPromptAndTwoAnswersWithTheirEnds) {
  const auto task = of_texts();
  const Shown pair = encoded(*task, {{"prompt", "ab"}, {"chosen", "cd"}, {"rejected", "e"}});
  EXPECT_EQ(pair.text, "@abcd~|@abe~");
  EXPECT_EQ(pair.learnt, "...cd~|...e~");
  EXPECT_EQ(pair.prompt, "@ab");
  EXPECT_EQ(encoded(*task, {{"prompt", "ab"}}, false).prompt, "@ab");
  // The published form of texts that hold their prompt: what they have in common, without the answer's space.
  const Shown implicit = encoded(*task, {{"chosen", "Q: x A: yes"}, {"rejected", "Q: x A: no"}});
  EXPECT_EQ(implicit.prompt, "@Q: x A:");
  EXPECT_EQ(implicit.learnt, "........ yes~|........ no~");
  EXPECT_EQ(encoded(*task, {{"chosen", "Q: x A: yes"}, {"rejected", "Q: x A: no"}}, false).prompt, "@Q: x A:");
  const Shown instruction = encoded(*task, {{"instruction", "ab"}, {"chosen", "c"}, {"rejected", "d"}});
  EXPECT_NE(instruction.prompt.find("### Instruction:\nab"), std::string::npos);
  const auto named = of_texts("{prompt: question, chosen: good, rejected: bad}");
  EXPECT_EQ(encoded(*named, {{"question", "a"}, {"good", "b"}, {"bad", "c"}}).text, "@ab~|@ac~");
}

TEST(PreferenceTest, ConversationsOfEveryPublishedFormAreTheSamePair) {
  const auto task = of_texts();
  const Json question{said("system", "s"), said("user", "q")};
  const auto with = [&](Json answer) {
    Json out = question;
    out.push_back(std::move(answer));
    return out;
  };
  const Shown pair = encoded(*task, {{"messages", question}, {"chosen", "yes"}, {"rejected", "no"}});
  EXPECT_EQ(pair.text, "<s>s$\n<u>q$\n<a>yes$\n|<s>s$\n<u>q$\n<a>no$\n");
  EXPECT_EQ(pair.learnt, "...............yes$.|...............no$.");
  EXPECT_EQ(pair.prompt, "<s>s$\n<u>q$\n<a>");
  const Json yes = said("assistant", "yes"), no = said("assistant", "no");
  for (const Json& row : std::vector<Json>{
           {{"messages", question}, {"chosen", yes}, {"rejected", no}},
           {{"messages", question}, {"chosen", {yes}}, {"rejected", {no}}},
           {{"prompt", question}, {"chosen", {yes}}, {"rejected", {no}}},
           {{"chosen", with(yes)}, {"rejected", with(no)}},
           {{"prompt", "q"}, {"chosen", with(yes)}, {"rejected", with(no)}, {"messages", with(yes)}},
           {{"conversations", {{{"from", "system"}, {"value", "s"}}, {{"from", "human"}, {"value", "q"}}}},
            {"chosen", {{"from", "gpt"}, {"value", "yes"}}},
            {"rejected", {{"from", "gpt"}, {"value", "no"}}}}}) {
    const Shown other = encoded(*task, row);
    EXPECT_EQ(other.text, pair.text) << row;
    EXPECT_EQ(other.learnt, pair.learnt) << row;
    EXPECT_EQ(other.prompt, pair.prompt) << row;
    if (!row.contains("messages") || row["messages"] == question) {
      EXPECT_EQ(encoded(*task, row, false).prompt, pair.prompt) << row;
    }
  }
  const Shown prompted = encoded(*task, {{"prompt", "q"}, {"chosen", {yes}}, {"rejected", {no}}});
  EXPECT_EQ(prompted.prompt, "<u>q$\n<a>");
  // Answers of the question itself are not learnt; those of a longer continuation all are.
  const Json before{said("user", "q"), said("assistant", "a"), said("user", "r")};
  const Shown longer = encoded(*task, {{"messages", before},
                                       {"chosen", {said("assistant", "x"), said("user", "u"), said("assistant", "y")}},
                                       {"rejected", {said("assistant", "z")}}});
  EXPECT_EQ(longer.learnt.substr(0, longer.learnt.find('|')), ".....................x$..........y$.");
}

TEST(PreferenceTest, BothSequencesLoseTheSameBeginningOfTheirPrompt) {
  const auto task = of_texts("{max_length: 8}");
  const Shown pair = encoded(*task, {{"prompt", "abcdefgh"}, {"chosen", "xyz"}, {"rejected", "w"}});
  EXPECT_EQ(pair.text, "@fghxyz~|@fghw~");
  EXPECT_NE(mistake(*task, {{"prompt", "a"}, {"chosen", "stuvwxyz"}, {"rejected", "w"}})
                .find("pairs.jsonl:7: the answer has 9 tokens, but 7 fit"),
            std::string::npos);
  const auto drop = of_texts("{max_length: 8, too_long: drop}");
  const Row fits{"a:1", {{"prompt", "a"}, {"chosen", "b"}, {"rejected", "c"}}},
      beyond{"a:2", {{"prompt", "a"}, {"chosen", "b"}, {"rejected", "stuvwxyz"}}};
  const auto kept = drop->arrange({drop->encode(fits, nullptr, true), drop->encode(beyond, nullptr, true)}, "rows");
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_EQ(kept[0].source, "a:1");
  const auto cut = of_texts("{max_length: 5, too_long: cut}");
  EXPECT_NE(mistake(*cut, {{"prompt", "a"}, {"chosen", "stuvwx"}, {"rejected", "stuvwy"}}).find("the same tokens"),
            std::string::npos);
  // Oldest turns go for both, by the longer one.
  const auto chat = of_texts("{max_length: 24}");
  const Json turns{said("user", "one"), said("assistant", "two"), said("user", "three")};
  const Shown short_one = encoded(*chat, {{"messages", turns}, {"chosen", "abcde"}, {"rejected", "f"}});
  EXPECT_EQ(short_one.text, "<u>three$\n<a>abcde$\n|<u>three$\n<a>f$\n");
}

TEST(PreferenceTest, RowsThatPreferNothingAreNamed) {
  const auto task = of_texts();
  const std::vector<std::pair<Json, const char*>> cases{
      {{{"prompt", "a"}, {"chosen", "b"}, {"rejected", "b"}}, "chosen and rejected are the same"},
      {{{"prompt", "a"}, {"chosen", "b"}, {"rejected", ""}}, "rejected: an empty answer"},
      {{{"prompt", "a"}, {"chosen", "b"}}, "no column 'rejected'"},
      {{{"question", "a"}, {"chosen", "xb"}, {"rejected", "xc"}}, "name the column of the prompt in data.prompt"},
      {{{"chosen", "b"}, {"rejected", "c"}}, "no beginning in common"},
      {{{"prompt", "a"}, {"chosen", "b"}, {"rejected", {said("assistant", "c")}}}, "expected two texts or two lists"},
      {{{"chosen", {said("user", "a"), said("assistant", "b")}}, {"rejected", {said("user", "a"), said("user", "c")}}},
       "rejected: the last message is of the user"},
      {{{"chosen", {said("user", "a"), said("assistant", "b")}},
        {"rejected", {said("user", "c"), said("assistant", "d")}}},
       "no question that both answer"},
      {{{"messages", {said("user", "a")}}, {"chosen", said("assistant", "")}, {"rejected", said("assistant", "c")}},
       "chosen: an empty answer"},
  };
  for (const auto& [row, words] : cases) {
    const std::string message = mistake(*task, row);
    EXPECT_NE(message.find(words), std::string::npos) << row << message;
    EXPECT_NE(message.find("pairs.jsonl:7"), std::string::npos) << message;
  }
}

struct Golden {
  nlohmann::json all = golden("preference.json");
  std::shared_ptr<ModelFiles> files =
      open_model_files(std::filesystem::path(DEEPLORA_TEST_DATA) / "golden" / "families" / "llama");
  std::shared_ptr<LanguageModel> model;
  std::unique_ptr<AdaptedModel> adapted;

  Golden() {
    ModelFamilies families("model family");
    register_model_families(families);
    for (const auto& name : families.names())
      if (!model && families.at(name).recognises(*files)) model = families.at(name).build(*files, {0.0});
    adapted = std::make_unique<AdaptedModel>(model, nullptr);
    const auto sites = choose_sites(model->sites(), {"*.q_proj", "*.down_proj"});
    adapted->add_adapters(sites,
                          testing::factory_of("lora", cat("{rank: ", all["rank"], ", alpha: ", all["alpha"], "}")), 1,
                          torch::kCPU, nullptr);
    const torch::NoGradGuard no_grad;
    for (const auto& factor : all["factors"]) parameter(factor).copy_(tensor_from(factor));
    model->eval();
  }
  torch::Tensor parameter(const nlohmann::json& factor) {
    const auto name = cat("adapter/", factor["path"].get<std::string>(), "/", factor["factor"].get<std::string>());
    for (const auto& [path, value] : adapted->state())
      if (path == name) return value;
    throw std::out_of_range(name);
  }
  std::vector<Example> pairs(const Task& task) const {
    std::vector<Example> out;
    for (const auto& row : all["rows"])
      out.push_back(task.encode({cat("rows:", out.size() + 1), Json::parse(row.dump())}, nullptr, true));
    return out;
  }
  double gradient_difference(const nlohmann::json& expected) {
    double worst = 0;
    for (const auto& factor : expected["gradients"]) {
      torch::Tensor value = parameter(factor);
      const torch::Tensor wanted = tensor_from(factor);
      worst = std::max(worst, (value.grad() - wanted).abs().max().item<double>());
      value.mutable_grad().reset();
    }
    return worst;
  }
};

std::unique_ptr<Task> of_case(const nlohmann::json& expected) {
  auto task = preference(cat("{loss: ", expected["loss"].get<std::string>(), ", beta: ", expected["beta"], "}"));
  task->use_model({});
  return task;
}

// However a step is cut into batches, with the model's own losses of tokens or those of its logits.
TEST(PreferenceTest, LossRewardsAndGradientsAreTrls) {
  Golden given;
  for (const auto& expected : given.all["cases"]) {
    SCOPED_TRACE(cat(expected["loss"], " ", expected["beta"]));
    const auto task = of_case(expected);
    auto pairs = given.pairs(*task);
    if (task->needs_reference()) {
      given.adapted->detach();
      task->refer(*given.model, pairs, {.batch_size = 4});
      given.adapted->attach();
      for (size_t i = 0; i < pairs.size(); ++i)
        for (const size_t side : {0, 1})
          EXPECT_NEAR(pairs[i].reference.at(side), expected["reference"][i][side].get<double>(), 1e-5);
    }
    for (const auto& cut : std::vector<std::vector<MicroBatch>>{{{0, 1, 2, 3, 4, 5}}, {{5, 0, 2}, {1}, {4, 3}}}) {
      const StepLoss step = accumulate_gradients({*given.model, *task, torch::kCPU, false, nullptr}, pairs, cut);
      EXPECT_NEAR(step.mean(), expected["value"].get<double>(), 1e-5);
      EXPECT_LT(given.gradient_difference(expected), 1e-5);
    }
    std::vector<const Example*> all;
    for (const auto& pair : pairs) all.push_back(&pair);
    const Batch batch = task->collate(all);
    const torch::Tensor loss = task->loss_sum(given.model->forward(batch), batch) / task->loss_count(batch);
    EXPECT_NEAR(loss.item<double>(), expected["value"].get<double>(), 1e-5);
    loss.backward();
    EXPECT_LT(given.gradient_difference(expected), 1e-5);
    const Assessment found = task->assess(*given.model, pairs, {.batch_size = 2});
    double margin = 0, right = 0;
    for (size_t i = 0; i < pairs.size(); ++i) {
      const double difference =
          expected["chosen_rewards"][i].get<double>() - expected["rejected_rewards"][i].get<double>();
      EXPECT_NEAR(found.rows[i].prediction.get<double>(), difference, 1e-5);
      margin += difference / static_cast<double>(pairs.size());
      right += (difference > 0) / static_cast<double>(pairs.size());
    }
    const std::map<std::string, double> scores(found.scores.values.begin(), found.scores.values.end());
    EXPECT_NEAR(scores.at("loss"), expected["value"].get<double>(), 1e-5);
    EXPECT_NEAR(scores.at("margin"), margin, 1e-5);
    EXPECT_NEAR(scores.at("accuracy"), right, 1e-12);
  }
}

TEST(PreferenceTest, TiesAreNotCountedAsRight) {
  Golden given;
  const auto task = preference("{metric: accuracy}");
  task->use_model({});
  auto pairs = given.pairs(*task);
  task->refer(*given.model, pairs, {.batch_size = 4});
  const Scores scores = task->evaluate(*given.model, pairs, {.batch_size = 4});
  EXPECT_EQ(scores.headline_name(), "accuracy");
  EXPECT_TRUE(scores.higher_is_better);
  EXPECT_EQ(scores.headline(), 0.0);
  EXPECT_EQ(scores.json()["margin"], 0.0);
  EXPECT_NEAR(scores.json()["loss"].get<double>(), std::log(2.0), 1e-9);
}

TEST(PreferenceTest, WithoutAReferenceTheLossSaysSo) {
  Golden given;
  const auto task = preference("{}");
  task->use_model({});
  const auto pairs = given.pairs(*task);
  EXPECT_NE(error_of([&] { task->evaluate(*given.model, pairs, {}); }).find("as it was before training"),
            std::string::npos);
}

TEST(PreferenceLossTest, OddsOfCertainAnswersAreFinite) {
  for (const double chosen : {0.0, -1e-14, -1e-9, -0.69, -0.7, -40.0, -800.0}) {
    const torch::Tensor means = torch::tensor({{chosen, -0.5}}, torch::kFloat64).requires_grad_();
    const torch::Tensor loss = odds_ratio_losses(means, 0.5).losses.sum();
    loss.backward();
    EXPECT_TRUE(loss.isfinite().item<bool>()) << chosen;
    EXPECT_TRUE(means.grad().isfinite().all().item<bool>()) << chosen;
  }
}

}  // namespace
}  // namespace deeplora
