#include "tasks/text_task.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <map>

#include "support/tiny_archive.h"
#include "tasks/registration.h"

namespace deeplora {
namespace {

using testing::error_of;

/// One id a word: enough for a task to encode with.
class WordTokenizer : public Tokenizer {
 public:
  Encoding encode(std::string_view text, std::optional<std::string_view> pair, int64_t max_length,
                  bool = false) const override {
    Encoding out;
    for (const auto part : {std::optional<std::string_view>(text), pair}) {
      if (!part) continue;
      for (const char c : *part) {
        out.ids.push_back(c % 7 + 1);
        out.type_ids.push_back(part == pair);
      }
    }
    out.truncated = max_length > 0 && static_cast<int64_t>(out.ids.size()) > max_length;
    if (out.truncated) {
      out.ids.resize(static_cast<size_t>(max_length));
      out.type_ids.resize(static_cast<size_t>(max_length));
    }
    return out;
  }
  std::vector<int64_t> tokenize(std::string_view text) const override { return encode(text, std::nullopt, 0).ids; }
  Encoding surround(std::vector<int64_t> ids, size_t& begin) const override {
    begin = 0;
    Encoding out;
    out.type_ids.assign(ids.size(), 0);
    out.ids = std::move(ids);
    return out;
  }
  std::string decode(std::span<const int64_t>, bool) const override { return ""; }
  int64_t vocabulary_size() const override { return 8; }
  SpecialIds special() const override { return {.pad = 0}; }
  std::string piece(int64_t) const override { return ""; }
  std::string kind() const override { return "words"; }
};

/// Logits that only depend on the sum of the ids.
class SumModel : public LanguageModel {
 public:
  explicit SumModel(int64_t outputs) : outputs_(outputs) {}
  ModelOutput forward(const Batch& batch) override {
    const torch::Tensor sum = (batch.input_ids * batch.attention_mask).sum(1, true).to(torch::kFloat32);
    return {.hidden = {},
            .logits = torch::cat(std::vector<torch::Tensor>(static_cast<size_t>(outputs_), sum), 1) *
                      torch::arange(1, outputs_ + 1)};
  }
  std::vector<AdapterSite> sites() override { return {}; }
  std::vector<NamedTensor> base_parameters() override { return {}; }
  std::string family() const override { return "sum"; }

 private:
  int64_t outputs_;
};

/// Logits [B, T, V] of language models, or of so many classes: a row of a fixed table for the token that is read.
class TableModel : public LanguageModel {
 public:
  explicit TableModel(int64_t outputs = 8)
      : table_(torch::arange(64, torch::kFloat32).reshape({8, 8}).sin().narrow(1, 0, outputs)) {}
  ModelOutput forward(const Batch& batch) override {
    const torch::Tensor& ids = batch.decoder_input_ids.defined() ? batch.decoder_input_ids : batch.input_ids;
    return {.hidden = {}, .logits = at::embedding(table_, ids)};
  }
  std::vector<AdapterSite> sites() override { return {}; }
  std::vector<NamedTensor> base_parameters() override { return {}; }
  std::string family() const override { return "table"; }

 private:
  torch::Tensor table_;
};

std::unique_ptr<LanguageModel> model_for(const Task& task) {
  if (task.outputs() == 0) return std::make_unique<TableModel>();
  if (task.tags_tokens()) return std::make_unique<TableModel>(task.outputs());
  return std::make_unique<SumModel>(task.outputs());
}

/// An example and the windows behind it.
std::vector<const Example*> with_windows(const Example& example) {
  std::vector<const Example*> out{&example};
  for (const auto& window : example.windows) out.push_back(&window);
  return out;
}

/// The task under test, knowing a model's files as a run does.
std::unique_ptr<Task> make_task(const std::string& name, const Config& data) {
  Tasks tasks("task");
  register_tasks(tasks);
  auto task = tasks.at(name)(data);
  data.finish();
  const bool decoder = name == "seq2seq";
  task->use_model({.config = {"config.json", {{"n_positions", 64}, {"decoder_start_token_id", 0}, {"eos_token_id", 7}}},
                   .generation_config = {},
                   .tokenizer_files = [](const std::string&) { return std::optional<std::string>(); },
                   .tokenizer = std::make_shared<WordTokenizer>(),
                   .has_decoder = decoder});
  return task;
}

std::vector<Row> rows_for(const Task& task, int count) {
  std::vector<Row> rows;
  auto columns = task.columns(true);
  if (task.outputs() == 0 && columns.empty()) columns = {"prompt", "completion"};  // one of several forms of a row
  for (int i = 0; i < count; ++i) {
    Row row{cat("rows.jsonl:", i + 1), {}};
    for (const auto& column : columns)
      row.fields[column] =  // no two columns alike
          std::string(static_cast<size_t>(i % 5 + 1), static_cast<char>('a' + i % 4)) + column.front();
    row.fields["label"] = i % 2;
    if (task.tags_tokens()) {  // of one to five words, of which four do not fit into one window
      row.fields = nlohmann::ordered_json::object();
      for (int word = 0; word <= i % 5; ++word) {
        row.fields[columns[0]].push_back(std::string(5, static_cast<char>('a' + (i + word) % 4)));
        row.fields[columns[1]].push_back((i + word) % 2 == 0 ? "NOUN" : "VERB");
      }
    }
    rows.push_back(row);
  }
  return rows;
}

/// Rows of two labels, three of one and one of the other.
std::vector<Row> uneven_rows() {
  std::vector<Row> rows;
  for (const char* label : {"ham", "spam", "ham", "ham"}) {
    Row row{"rows:" + std::to_string(rows.size() + 1), nlohmann::ordered_json::object()};
    row.fields = {{"text", std::string(rows.size() + 1, 'b')}, {"label", label}};
    rows.push_back(std::move(row));
  }
  return rows;
}

TEST(ClassWeights, TheMeanLossIsPyTorchsWeightedCrossEntropy) {
  const auto rows = uneven_rows();
  const WordTokenizer tokenizer;
  for (const auto& [yaml, ham, spam] :
       {std::tuple("{class_weights: {ham: 0.25, spam: 3}}", 0.25, 3.0),
        std::tuple("{class_weights: balanced}", 4.0 / 6, 2.0), std::tuple("{class_weights: {spam: 5}}", 1.0, 5.0),
        std::tuple("{class_weights: none}", 1.0, 1.0)}) {
    const auto task = make_task("classification", Config::parse(yaml));
    task->fit(rows, rows);
    std::vector<Example> examples;
    std::vector<const Example*> all;
    for (const auto& row : rows) examples.push_back(task->encode(row, &tokenizer, true));
    for (const auto& example : examples) all.push_back(&example);
    const Batch batch = task->collate(all);
    const torch::Tensor logits = torch::randn({4, 2});
    namespace F = torch::nn::functional;
    const auto expected = F::cross_entropy(
        logits, batch.labels, F::CrossEntropyFuncOptions().weight(torch::tensor({ham, spam}, torch::kFloat32)));
    const double found =
        task->loss_sum(ModelOutput{.hidden = {}, .logits = logits}, batch).item<double>() / task->loss_count(batch);
    EXPECT_NEAR(found, expected.item<double>(), 1e-6) << yaml;
  }
}

class EveryTask : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    task->fit(rows, rows);
    for (const auto& row : rows) examples.push_back(task->encode(row, &tokenizer, true));
    model = model_for(*task);
    if (task->needs_reference()) task->refer(*model, examples, {});
  }

  const std::unique_ptr<Task> task = make_task(GetParam(), Config::parse("{max_length: 16}"));
  const std::vector<Row> rows = rows_for(*task, 9);
  const WordTokenizer tokenizer;
  std::vector<Example> examples;
  std::shared_ptr<LanguageModel> model;
};

// What stands behind the scores is of the same outputs: labels, predictions and the mean of the rows' losses.
TEST_P(EveryTask, AssessesRowsAsItScoresAndPredictsThem) {
  EvaluationOptions options;
  options.batch_size = 4;
  options.row_losses = true;
  const Assessment found = task->assess(*model, examples, options);
  const Scores scores = task->evaluate(*model, examples, options);
  EXPECT_EQ(found.scores.json(), scores.json());
  if (found.rows.empty()) return;
  ASSERT_EQ(found.rows.size(), examples.size());
  std::map<std::string, double> named(scores.values.begin(), scores.values.end());
  double sum = 0, weights = 0;
  for (size_t i = 0; i < examples.size(); ++i) {
    EXPECT_EQ(found.rows[i].source, rows[i].source);
    const auto batch = task->collate(with_windows(examples[i]));
    const auto weight = static_cast<double>(task->loss_count(batch));
    if (!std::isfinite(found.rows[i].loss)) continue;
    sum += weight * found.rows[i].loss;
    weights += weight;
  }
  EXPECT_NEAR(sum / weights, named.count("loss") ? named["loss"] : named.at("mse"), 1e-5);
  if (task->outputs() == 0) return;
  const auto predictions = task->predict(*model, examples, options);
  for (size_t i = 0; i < examples.size(); ++i)
    EXPECT_EQ(found.rows[i].prediction, predictions[i][task->tags_tokens() ? "tags" : "prediction"]);
  const auto counts = task->label_counts(examples);
  size_t counted = 0;
  for (const auto& [unused, count] : counts) counted += count;
  EXPECT_EQ(counted, counts.empty() ? 0 : task->tags_tokens() ? static_cast<size_t>(weights) : examples.size());
  if (!found.details.contains("per_label")) return;
  for (const auto& [name, count] : counts) EXPECT_EQ(found.details["per_label"][name]["support"], count);
}

TEST_P(EveryTask, EncodesCollatesTakesLossesAndScores) {
  std::vector<const Example*> all;
  double alone = 0;
  int64_t counted = 0;
  for (const auto& example : examples) {
    const Example* one[] = {&example};
    const Batch batch = task->collate(one);
    alone += task->loss_sum(model->forward(batch), batch).item<double>();
    counted += task->loss_count(batch);
    all.push_back(&example);
  }
  const Batch batch = task->collate(all);
  EXPECT_EQ(task->loss_count(batch), counted);
  if (task->loss_unit() == "row") {
    EXPECT_EQ(counted, 9);
  } else {
    EXPECT_GT(counted, 9);  // a label a token, or several a row
  }
  // A sum over the batch, whatever the padding; of rows that are compared with each other only their number counts.
  if (!task->joint()) {
    EXPECT_NEAR(task->loss_sum(model->forward(batch), batch).item<double>(), alone, 1e-3 * std::abs(alone) + 1e-4);
  }
  const Scores scores = task->evaluate(*model, examples, {.batch_size = 4});
  const bool correlation = scores.headline_name() == "pearson" || scores.headline_name() == "spearman";
  EXPECT_TRUE(std::isfinite(scores.headline()) || correlation);
  EXPECT_EQ(task->predict(*model, examples, {.batch_size = 2}).size(), 9u);

  // What an export carries makes the same task again.
  const auto again = make_task(GetParam(), Config::parse(task->settings().dump()));
  again->restore({"task.json", task->state()});
  EXPECT_EQ(again->predict(*model, examples, {}), task->predict(*model, examples, {}));
}

// What a row is cut into is trained on as rows of their own, and scored as the row.
TEST_P(EveryTask, ArrangedExamplesScoreAsTheRowsDo) {
  if (task->outputs() == 0) return;  // language models pack theirs
  const auto arranged = task->arrange(examples, "rows");
  double count = 0, of_rows = 0;
  for (const auto& example : arranged) {
    EXPECT_TRUE(example.windows.empty());
    EXPECT_LE(example.input_ids.size(), 16u);
    count += task->loss_count(task->collate(std::vector<const Example*>{&example}));
  }
  for (const auto& example : examples) of_rows += task->loss_count(task->collate(with_windows(example)));
  EXPECT_EQ(count, of_rows);
  EXPECT_EQ(task->tags_tokens(), arranged.size() > examples.size());
  EXPECT_EQ(task->evaluate(*model, arranged, {.batch_size = 4}).json(), task->evaluate(*model, examples, {}).json());
}

std::vector<std::string> all_tasks() {
  Tasks tasks("task");
  register_tasks(tasks);
  return tasks.names();
}

INSTANTIATE_TEST_SUITE_P(Registry, EveryTask, ::testing::ValuesIn(all_tasks()));

TEST(MultiLabelTest, TheLossIsASumOverWeightedCellsAndSoIsItsCount) {
  std::vector<Row> rows;
  for (const char* label : {"a,b", "b", "", "c, b", "a"}) {
    Row row{"rows:" + std::to_string(rows.size() + 1), nlohmann::ordered_json::object()};
    row.fields = {{"text", std::string(rows.size() + 1, 'b')}, {"label", label}};
    rows.push_back(std::move(row));
  }
  const torch::Tensor labels = torch::tensor({{1, 1, 0}, {0, 1, 0}, {0, 0, 0}, {0, 1, 1}, {1, 0, 0}}, torch::kFloat32);
  // As scikit-learn balances two classes: rows / (2 x rows of the class).
  const torch::Tensor with = torch::tensor({5.0 / 4, 5.0 / 6, 5.0 / 2}, torch::kFloat32),
                      without = torch::tensor({5.0 / 6, 5.0 / 4, 5.0 / 8}, torch::kFloat32);
  const std::vector<std::pair<std::string, torch::Tensor>> cases{
      {"{}", torch::ones({5, 3})},
      {"{class_weights: {a: 3, c: 0.5}}", torch::where(labels > 0, torch::tensor({3.0, 1.0, 0.5}), torch::ones(3))},
      {"{class_weights: balanced}", torch::where(labels > 0, with, without)}};
  for (const auto& [yaml, weights] : cases) {
    auto task = make_task("multi-label", Config::parse(yaml));
    task->fit(rows, rows);
    SumModel model(3);
    std::vector<Example> examples;
    std::vector<const Example*> all;
    for (const auto& row : rows) examples.push_back(task->encode(row, std::make_unique<WordTokenizer>().get(), true));
    for (const auto& example : examples) all.push_back(&example);
    const Batch batch = task->collate(all);
    EXPECT_TRUE(torch::equal(batch.labels, labels));
    torch::Tensor logits = (torch::arange(15, torch::kFloat32).reshape({5, 3}) * 0.37).sin().requires_grad_(true);
    const torch::Tensor p = torch::sigmoid(logits.to(torch::kFloat64));
    const torch::Tensor cells = -(labels * p.log() + (1 - labels) * (1 - p).log()) * weights;
    const torch::Tensor loss = task->loss_sum({.hidden = {}, .logits = logits}, batch);
    EXPECT_NEAR(loss.item<double>(), cells.sum().item<double>(), 1e-5) << yaml;
    EXPECT_NEAR(task->loss_count(batch), weights.sum(torch::kFloat64).item<double>(), 1e-5) << yaml;
    const auto expected = torch::autograd::grad({cells.sum()}, {logits}),
               found = torch::autograd::grad({loss}, {logits});
    EXPECT_TRUE(torch::allclose(found[0], expected[0], 1e-5, 1e-6)) << yaml;
    double count = 0;  // the same, however the rows are cut into batches
    for (size_t i = 0; i < all.size(); ++i) count += task->loss_count(task->collate(std::span(all).subspan(i, 1)));
    EXPECT_NEAR(count, task->loss_count(batch), 1e-5);
  }
}

TEST(ClassificationTest, LabelsMayBeTextsOrNumbersAndNumbersKeepTheirOrder) {
  auto task = make_classification("classification", Config::parse("{}"), {}, "accuracy");
  std::vector<Row> rows;
  for (const char* label : {"10", "9", "2"}) rows.push_back({"r:1", {{"text", "x"}, {"label", label}}});
  task->fit({}, rows);
  EXPECT_EQ(task->state().dump(), R"({"labels":["2","9","10"]})");
  const WordTokenizer tokenizer;
  const Row unknown{"dev.jsonl:7", {{"text", "x"}, {"label", "3"}}};
  const std::string message = error_of([&] { task->encode(unknown, &tokenizer, true); });
  EXPECT_NE(message.find("dev.jsonl:7"), std::string::npos) << message;
  EXPECT_NE(message.find("known: 2, 9, 10"), std::string::npos) << message;
}

TEST(RegressionTest, LossIsInUnitsOfTheTrainingTargetsSpread) {
  auto task = make_regression("regression", Config::parse("{}"), {}, "pearson");
  std::vector<Row> rows;
  for (const double label : {1.0, 5.0}) rows.push_back({"r:1", {{"text", "x"}, {"label", label}}});
  task->fit(rows, rows);
  EXPECT_EQ(task->output_scale(), (std::pair<double, double>{3.0, 2.0}));
  Batch batch;
  batch.labels = torch::tensor({-1.0f, 1.0f});  // in these units
  const ModelOutput output{.hidden = {}, .logits = torch::tensor({{3.0f}, {3.0f}})};
  EXPECT_NEAR(task->loss_sum(output, batch).item<double>(), 2.0, 1e-6);  // ((1-3)/2)^2 + ((5-3)/2)^2
}

TEST(ClassificationTest, SpellingsAndBlanksAroundLabelsAreOneLabelAndAreSaid) {
  auto task = make_classification("classification", Config::parse("{positive: 1.0}"), {}, "accuracy");
  std::vector<Row> rows;
  for (const char* label : {"0", "1 ", "1.0", "1"})
    rows.push_back({cat("r:", rows.size() + 1), {{"text", rows.empty() ? "" : "x"}, {"label", label}}});
  rows.push_back({"r:5", {{"text", " "}, {"label", 1.0}}});
  task->fit({}, rows);
  EXPECT_EQ(task->state().dump(), R"({"labels":["0","1"]})");
  EXPECT_EQ(task->remarks(rows, true),
            (std::vector<std::string>{
                "2 of 5 rows have an empty text, the first at r:1",
                "1 of 5 values of column label had blanks at an end, which are not part of them, the first at r:2"}));
  const WordTokenizer tokenizer;
  EXPECT_EQ(task->encode({"dev:1", {{"text", "x"}, {"label", " 1.00"}}}, &tokenizer, true).label, 1);
  const std::string message = error_of([&] { task->encode(rows[0], &tokenizer, true); });
  EXPECT_NE(message.find("r:1: text: an empty text, and the tokenizer adds no token of its own"), std::string::npos)
      << message;
}

TEST(TextTaskTest, PaddingIsTakenOffAtBothEnds) {
  auto task = make_regression("regression", Config::parse("{max_length: 3}"), {}, "pearson");
  const Row row{"r:1",
                {{"input_ids", {9, 9, 5, 6, 7, 8, 9}},
                 {"attention_mask", {0, 0, 1, 0, 1, 1, 0}},
                 {"token_type_ids", {2, 2, 0, 0, 1, 1, 2}}}};
  const Example e = task->encode(row, nullptr, false);
  EXPECT_EQ(e.input_ids, (std::vector<int64_t>{5, 6, 7}));
  EXPECT_EQ(e.attention_mask, (std::vector<int64_t>{1, 0, 1}));
  EXPECT_EQ(e.token_type_ids, (std::vector<int64_t>{0, 0, 1}));
  EXPECT_EQ(task->remarks({row}, false),
            std::vector<std::string>{"1 of 1 rows begin with padding, the first r:1; they are turned, so that "
                                     "positions count from the first token"});
}

TEST(RegressionTest, TargetsAreStandardisedInDoubleBeforeTheyAreFloats) {
  auto task = make_regression("regression", Config::parse("{}"), {}, "pearson");
  std::vector<Row> rows;
  for (int i = 0; i < 10; ++i) rows.push_back({"r:1", {{"input_ids", {5}}, {"label", 1.7e9 + i}}});
  task->fit(rows, rows);
  EXPECT_EQ(task->output_scale().first, 1.7e9 + 4.5);
  EXPECT_NEAR(task->output_scale().second, std::sqrt(8.25), 1e-12);
  const Example example = task->encode(rows[9], nullptr, true);
  const Example* one[] = {&example};
  const Batch batch = task->collate(one);
  EXPECT_NEAR(batch.labels.item<double>(), 4.5 / std::sqrt(8.25), 1e-7);
  const ModelOutput output{.hidden = {}, .logits = torch::full({1, 1}, 1.7e9 + 8, torch::kFloat64)};
  EXPECT_NEAR(task->loss_sum(output, batch).item<double>(), 1 / 8.25, 1e-6);
}

TEST(TextTaskTest, RowsWithInputIdsNeedNoTokenizerAndAreCut) {
  auto task = make_classification("classification", Config::parse("{max_length: 3}"), {}, "accuracy");
  const std::vector<Row> rows{{"r:1", {{"input_ids", {5, 6, 7, 8}}, {"label", "a"}}},
                              {"r:2", {{"input_ids", {5}}, {"label", "b"}}}};
  task->fit(rows, rows);
  const Example cut = task->encode(rows[0], nullptr, true);
  EXPECT_EQ(cut.input_ids, (std::vector<int64_t>{5, 6, 7}));
  EXPECT_TRUE(cut.truncated);
  const Row bad{"r:3", {{"input_ids", {5, -1}}, {"label", "a"}}};
  EXPECT_NE(error_of([&] { task->encode(bad, nullptr, true); }).find("r:3: input_ids"), std::string::npos);
}

}  // namespace
}  // namespace deeplora
