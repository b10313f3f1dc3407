// Oracle: tests/golden/embedding.json, sentence-transformers' losses, their gradients, and its evaluator's scores
// (tests/golden/make/embedding.py).
#include "tasks/embedding.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "support/errors.h"
#include "support/tensors.h"
#include "tasks/embedding_loss.h"
#include "tasks/retrieval_scores.h"

namespace deeplora {
namespace {

using testing::close;
using testing::error_of;
using testing::golden;
using testing::tensor_from;

EmbeddingLoss loss_of_case(const nlohmann::json& c) {
  const std::string name = c.at("loss");
  return {.kind = name == "mnr"      ? EmbeddingLossKind::mnr
                  : name == "cosent" ? EmbeddingLossKind::cosent
                                     : EmbeddingLossKind::cosine,
          .temperature = c.at("temperature"),
          .both_directions = c.at("both_directions"),
          .widths = c.at("widths").get<std::vector<int64_t>>()};
}

TEST(EmbeddingLossTest, ValueAndGradientAreThoseOfSentenceTransformers) {
  const auto cases = golden("embedding.json").at("losses");
  ASSERT_GE(cases.size(), 14u);
  for (const auto& c : cases) {
    const int64_t rows = c.at("rows");
    const torch::Tensor vectors = tensor_from(c.at("vectors")).requires_grad_();
    const torch::Tensor labels = c.contains("scores")
                                     ? torch::tensor(c.at("scores").get<std::vector<double>>(), torch::kFloat64)
                                     : torch::arange(vectors.size(0)).view({-1, rows}).t().contiguous();
    const torch::Tensor loss = embedding_loss(vectors, labels, loss_of_case(c));
    loss.backward();
    EXPECT_NEAR(loss.item<double>(), c.at("value").get<double>(), 1e-6) << c.dump().substr(0, 100);
    EXPECT_TRUE(close(vectors.grad(), tensor_from(c.at("gradient")), 1e-6)) << c.dump().substr(0, 100);
  }
}

/// The loss over the candidates that are left, written down term by term.
double by_hand(const torch::Tensor& vectors, int64_t rows, const std::vector<std::vector<int64_t>>& left,
               double temperature) {
  const torch::Tensor unit = vectors / vectors.norm(2, -1, true);
  double sum = 0;
  for (int64_t i = 0; i < rows; ++i) {
    double total = 0;
    const auto term = [&](int64_t j) { return torch::dot(unit[i], unit[rows + j]).item<double>() / temperature; };
    for (const int64_t j : left[static_cast<size_t>(i)]) total += std::exp(term(j));
    sum += std::log(total) - term(i);
  }
  return sum / static_cast<double>(rows);
}

TEST(EmbeddingLossTest, RightAnswersOfOtherRowsAreNoNegatives) {
  torch::manual_seed(3);
  const torch::Tensor vectors = torch::randn({9, 5}, torch::kFloat64);
  // Rows 0 and 1 have one partner; row 2 has the text of row 0, so both their partners are right for it; the hard
  // negative of row 2 is the partner of row 1.
  const torch::Tensor numbers = torch::tensor({{0, 3, 6}, {1, 3, 7}, {0, 5, 3}}, torch::kInt64);
  const double expected = by_hand(vectors, 3, {{0, 3, 4}, {1, 2, 3, 4}, {2, 3, 4}}, 0.1);
  EXPECT_NEAR(embedding_loss(vectors, numbers, {.temperature = 0.1}).item<double>(), expected, 1e-9);
}

TEST(RetrievalScoresTest, AreThoseOfSentenceTransformers) {
  const auto cases = golden("embedding.json").at("retrieval");
  ASSERT_GE(cases.size(), 5u);
  for (const auto& c : cases) {
    const RetrievalScores found = retrieval_scores(c.at("places").get<std::vector<std::vector<size_t>>>());
    EXPECT_NEAR(found.mrr_10, c.at("mrr@10").get<double>(), 1e-12);
    EXPECT_NEAR(found.ndcg_10, c.at("ndcg@10").get<double>(), 1e-12);
    EXPECT_NEAR(found.recall_1, c.at("recall@1").get<double>(), 1e-12);
    EXPECT_NEAR(found.recall_10, c.at("recall@10").get<double>(), 1e-12);
    EXPECT_NEAR(found.map_100, c.at("map@100").get<double>(), 1e-12);
  }
}

TEST(RetrievalScoresTest, PlacesAreByScoreAndOfEqualsByOrder) {
  const double scores[] = {0.5, 0.9, 0.5, 0.1, 0.9};
  EXPECT_EQ(places_of(scores, 5, {0, 1, 2, 3, 4}), (std::vector<size_t>{3, 1, 4, 5, 2}));
  EXPECT_TRUE(std::isnan(retrieval_scores({}).mrr_10));
  EXPECT_THROW(retrieval_scores({{1}, {}}), std::invalid_argument);
}

/// Vectors that hang on a weight, with dropout.
class WeightedSums : public LanguageModel {
 public:
  WeightedSums() { weight_ = register_parameter("weight", torch::randn({4, 16}, torch::kFloat64)); }
  ModelOutput forward(const Batch& batch) override {
    const torch::Tensor counts =
        torch::one_hot(batch.input_ids * batch.attention_mask, 17).sum(1).slice(1, 1).to(torch::kFloat64).sqrt();
    return {.hidden = {}, .logits = torch::linear(torch::dropout(counts, 0.3, is_training()), weight_)};
  }
  std::vector<AdapterSite> sites() override { return {}; }
  std::vector<NamedTensor> base_parameters() override { return {}; }
  std::string family() const override { return "sums"; }

  torch::Tensor weight_;
};

std::vector<Example> drawn_rows(int64_t rows, int64_t others) {
  std::vector<Example> out;
  const auto text = [] {
    Example one;
    for (int64_t length = 2 + torch::randint(5, {1}).item<int64_t>(); length > 0; --length)
      one.input_ids.push_back(1 + torch::randint(15, {1}).item<int64_t>());
    return one;
  };
  for (int64_t i = 0; i < rows; ++i) {
    out.push_back(text());
    for (int64_t k = 0; k < others; ++k) out.back().others.push_back(text());
  }
  return out;
}

std::unique_ptr<Task> task_of(const std::string& yaml) {
  const Config data = Config::parse(yaml);
  auto task = make_embedding(data);
  data.finish();
  task->use_width(4);
  return task;
}

/// Gradient of the weight, and the loss, when at most `rows` rows are computed at a time.
std::pair<torch::Tensor, double> jointly(const Task& task, WeightedSums& model, std::span<const Example> rows,
                                         int64_t batch_size) {
  std::vector<const Example*> pointers;
  for (const Example& row : rows) pointers.push_back(&row);
  model.zero_grad();
  const double loss = task.backward_jointly(
      {.model = model, .rows = pointers, .batch_size = batch_size, .divisor = static_cast<double>(rows.size())});
  return {model.weight_.grad().clone(), loss};
}

TEST(EmbeddingTaskTest, PiecesOfABatchGiveTheGradientOfTheWhole) {
  torch::manual_seed(11);
  WeightedSums model;
  model.eval();  // no dropout: whole and pieces would drop other values
  for (const int64_t others : {1, 2}) {
    const auto rows = drawn_rows(7, others);
    const auto task = task_of("{both_directions: true, matryoshka: [4, 2]}");
    const auto [whole, loss] = jointly(*task, model, rows, 7);
    for (const int64_t most : {1, 2, 3, 6}) {
      const auto [pieces, same] = jointly(*task, model, rows, most);
      EXPECT_TRUE(close(pieces, whole, 1e-12)) << most;
      EXPECT_NEAR(same, loss, 1e-10);
    }
    EXPECT_GT(whole.abs().max().item<double>(), 1e-3);
  }
}

TEST(EmbeddingTaskTest, PiecesThatAreComputedTwiceDropTheSameValues) {
  torch::manual_seed(12);
  WeightedSums model;
  const auto rows = drawn_rows(5, 1);
  const auto task = task_of("{}");
  torch::manual_seed(13);
  const auto [found, loss] = jointly(*task, model, rows, 2);
  const torch::Tensor next = torch::rand({3});

  torch::manual_seed(13);
  model.zero_grad();
  std::vector<torch::Tensor> texts, partners;
  for (size_t start = 0; start < rows.size(); start += 2) {
    std::vector<const Example*> some;
    for (size_t i = start; i < std::min<size_t>(rows.size(), start + 2); ++i) some.push_back(&rows[i]);
    const torch::Tensor vectors = model.forward(task->collate(some)).logits;
    const auto count = static_cast<int64_t>(some.size());
    texts.push_back(vectors.slice(0, 0, count));
    partners.push_back(vectors.slice(0, count));
  }
  std::vector<const Example*> all;
  for (const Example& row : rows) all.push_back(&row);
  texts.insert(texts.end(), partners.begin(), partners.end());
  const torch::Tensor expected = embedding_loss(torch::cat(texts), task->collate(all).labels, {});
  expected.backward();
  EXPECT_TRUE(close(found, model.weight_.grad(), 1e-12));
  EXPECT_NEAR(loss, expected.item<double>() * 5, 1e-10);
  EXPECT_TRUE(torch::equal(next, torch::rand({3}))) << "the generator stands elsewhere afterwards";
}

TEST(EmbeddingTaskTest, SpelledOutDefaultsAskForNoMoreColumns) {
  const auto again = task_of(task_of("{}")->settings().dump());
  EXPECT_EQ(again->columns(true), (std::vector<std::string>{"text", "text_pair"}));
  EXPECT_EQ(task_of("{negative: wrong}")->columns(true), (std::vector<std::string>{"text", "text_pair", "wrong"}));
}

TEST(EmbeddingTaskTest, RowsOfOneFileAreOfOneForm) {
  const auto task = task_of("{}");
  const auto row = [](int line, nlohmann::ordered_json fields) {
    return Row{cat("rows.jsonl:", line), std::move(fields)};
  };
  const nlohmann::ordered_json pair{{"text", "a"}, {"text_pair", "b"}},
      null{{"text", "a"}, {"text_pair", "b"}, {"label", nullptr}},
      scored{{"text", "a"}, {"text_pair", "b"}, {"score", 1}},
      triplet{{"text", "a"}, {"text_pair", "b"}, {"negative", "c"}};
  EXPECT_EQ(task->documents({row(1, pair), row(2, null)}).size(), 2u);
  const std::string mixed = error_of([&] { task->documents({row(1, pair), row(2, scored), row(3, triplet)}); });
  EXPECT_NE(mixed.find("rows.jsonl:2: is a scored pair, but rows.jsonl:1 is a pair"), std::string::npos) << mixed;
  auto both = triplet;
  both["label"] = 2;
  EXPECT_NE(error_of([&] { task->documents({row(1, both)}); }).find("negative"), std::string::npos);
  const std::string wrong = error_of([&] {
    const std::vector<Row> rows{row(1, scored)};
    task_of("{loss: mnr}")->fit(rows, rows);
  });
  EXPECT_NE(wrong.find("data.loss: mnr takes pairs or triplets"), std::string::npos) << wrong;
  EXPECT_NE(error_of([&] {
              const std::vector<Row> rows{row(1, pair)};
              task_of("{loss: cosine}")->fit(rows, rows);
            }).find("scored pairs"),
            std::string::npos);
  auto large = scored;
  large["score"] = 4.5;
  const std::vector<Row> rows{row(1, large)};
  EXPECT_NE(error_of([&] { task_of("{loss: cosine}")->fit(rows, rows); }).find("data.score_range"), std::string::npos);
  EXPECT_NO_THROW(task_of("{loss: cosine, score_range: [0, 5]}")->fit(rows, rows));
}

}  // namespace
}  // namespace deeplora
