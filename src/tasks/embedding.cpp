#include "tasks/embedding.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/random.h"
#include "lm/autocast.h"
#include "lm/pooled_model.h"
#include "tasks/embedding_loss.h"
#include "tasks/metrics.h"
#include "tasks/retrieval_scores.h"
#include "tasks/task_state.h"
#include "tasks/text_task.h"
#include "text/row_errors.h"

namespace deeplora {
namespace {

/// What the labelled rows of a file are, all of them.
enum class RowForm { pairs, triplets, scored };

const char* form_name(RowForm form) {
  return form == RowForm::pairs ? "a pair" : form == RowForm::triplets ? "a triplet" : "a scored pair";
}

RowForm form_of(const Example& example) {
  return example.labelled ? RowForm::scored : example.others.size() > 1 ? RowForm::triplets : RowForm::pairs;
}

/// The text of an example without its partners.
Example alone(const Example& text) {
  Example out;
  out.source = text.source;
  out.input_ids = text.input_ids;
  out.token_type_ids = text.token_type_ids;
  out.attention_mask = text.attention_mask;
  return out;
}

/// Different texts of examples, by number; numbers of every example's texts in the order text, partner, negative.
struct DifferentTexts {
  std::vector<Example> texts;
  std::vector<std::vector<size_t>> of_rows;

  explicit DifferentTexts(std::span<const Example* const> examples) {
    std::map<std::vector<int64_t>, size_t> numbers;
    const auto number = [&](const Example& text) {
      const auto [found, fresh] = numbers.emplace(text.input_ids, texts.size());
      if (fresh) texts.push_back(alone(text));
      return found->second;
    };
    for (const Example* example : examples) {
      of_rows.push_back({number(*example)});
      for (const Example& other : example->others) of_rows.back().push_back(number(other));
    }
  }
};

std::vector<const Example*> as_pointers(std::span<const Example> examples) {
  std::vector<const Example*> out;
  for (const Example& example : examples) out.push_back(&example);
  return out;
}

/// Where the default generators stand, so that a forward pass that is computed twice drops the same values.
class DropoutState {
 public:
  explicit DropoutState(torch::Device device) : generators_(default_generators(device)) {
    for (auto& [unused, generator] : generators_) {
      const std::scoped_lock lock(generator.mutex());
      states_.push_back(generator.get_state());
    }
  }
  void restore() {
    for (size_t i = 0; i < states_.size(); ++i) {
      at::Generator& generator = generators_[i].second;
      const std::scoped_lock lock(generator.mutex());
      generator.set_state(states_[i]);
    }
  }

 private:
  std::vector<std::pair<std::string, at::Generator>> generators_;
  std::vector<torch::Tensor> states_;
};

/// Rows of one forward pass of a joint batch.
struct JointPiece {
  std::vector<const Example*> rows;
  torch::Tensor places;   ///< of their texts among the vectors of the whole batch
  torch::Tensor vectors;  ///< with their graph
  std::optional<DropoutState> dropout;
};

/// This process's rows, at most batch_size in a piece; texts lie column after column, as collate() has them.
std::vector<JointPiece> pieces_of(const JointRows& joint) {
  std::vector<size_t> mine;
  for (size_t i = 0; i < joint.rows.size(); ++i)
    if (is_mine(joint.group, i)) mine.push_back(i);
  const size_t columns = joint.rows.front()->others.size() + 1, most = static_cast<size_t>(joint.batch_size);
  std::vector<JointPiece> out;
  for (size_t start = 0; start < mine.size(); start += most) {
    const std::span<const size_t> chosen(&mine[start], std::min(most, mine.size() - start));
    out.emplace_back();
    std::vector<int64_t> places;
    for (const size_t row : chosen) out.back().rows.push_back(joint.rows[row]);
    for (size_t column = 0; column < columns; ++column)
      for (const size_t row : chosen) places.push_back(static_cast<int64_t>(column * joint.rows.size() + row));
    out.back().places = torch::tensor(places, torch::kInt64).to(joint.device);
  }
  return out;
}

class Embedding : public Task {
 public:
  explicit Embedding(const Config& data) {
    data.read("text", text_, "column of the text: name, or 0-based index");
    data.read("text_pair", pair_, "column of the text's right partner, or of the other text of a scored pair");
    data.read("negative", negative_, "column of a wrong partner that is hard to tell; empty: none");
    data.read("label", label_, "column of the score of a pair; empty: none");
    // Columns of the default names may be there; others must. (A run's own configuration spells the defaults out.)
    negative_named_ = !negative_.empty() && negative_ != kNegative;
    label_named_ = !label_.empty() && label_ != kLabel;
    data.read("max_length", max_length_,
              "longest input in tokens, special tokens included; longer texts are cut and counted");
    data.require(max_length_ >= 3, "max_length", "at least 3 tokens");
    data.require(!text_.empty(), "text", "the name of a column");
    data.require(!pair_.empty(), "text_pair", "the name of a column");
    read_loss(data);
    const Config prefix = data.section("prefix");
    prefix.read("query", query_, "stands before every text (\"query: \"); the blank at its end is part of it");
    prefix.read("passage", passage_, "stands before every partner and hard negative (\"passage: \")");
    data.read_choice("embed_as", embed_as_, {"query", "passage"}, "whose prefix the texts of predict get");
  }

  std::string name() const override { return "embedding"; }
  nlohmann::ordered_json settings() const override {
    return {{"text", text_},        {"text_pair", pair_},        {"negative", negative_},
            {"label", label_},      {"max_length", max_length_}, {"prefix", {{"query", query_}, {"passage", passage_}}},
            {"embed_as", embed_as_}};
  }
  std::vector<std::string> columns(bool labelled) const override {
    std::vector<std::string> out{text_};
    if (!labelled) return out;
    out.push_back(pair_);
    if (negative_named_) out.push_back(negative_);
    if (label_named_) out.push_back(label_);
    return out;
  }
  void table_options(TableOptions& options, bool labelled) const override;
  void fit(std::span<const Row> train, std::span<const Row> all) override;
  nlohmann::ordered_json state() const override { return {{"width", width_}}; }
  void restore(const OrderedJsonFile& state) override { width_ = read_width(state); }
  void set_pad_id(int64_t id) override { pad_id_ = id; }
  int64_t outputs() const override { return width_; }
  bool embeds() const override { return true; }
  void use_width(int64_t width) override {
    for (const int64_t shorter : loss_.widths)
      check(shorter <= width, "data.matryoshka: ", shorter, ": the model's vectors have ", width, " entries");
    width_ = width;
  }
  std::vector<std::string> remarks(const std::vector<Row>& rows, bool labelled) const override {
    const std::vector<std::string> columns =
        labelled ? std::vector<std::string>{text_, pair_, negative_} : std::vector<std::string>{text_};
    const std::string said = empty_texts(rows, columns).said(rows.size(), " rows have an empty text");
    return said.empty() ? std::vector<std::string>{} : std::vector{said};
  }
  std::string label_summary(std::span<const Example> examples) const override;
  std::string input_of(const Row& row) const override {
    return cat(text_cell(row, text_), '\0', text_cell(row, pair_));
  }
  std::vector<Row> documents(std::vector<Row> rows) const override;
  Example encode(const Row& row, const Tokenizer* tokenizer, bool labelled) const override;
  Batch collate(std::span<const Example* const> examples) const override;
  double loss_count(const Batch& batch) const override { return static_cast<double>(batch.labels.size(0)); }
  torch::Tensor loss_sum(const ModelOutput& output, const Batch& batch) const override {
    return embedding_loss(output.logits, batch.labels, loss_) * batch.labels.size(0);
  }
  int64_t rows_of_batch(int64_t batch_size) const override { return negatives_batch_.value_or(batch_size); }
  bool joint() const override { return loss_.kind != EmbeddingLossKind::cosine; }
  double backward_jointly(const JointRows& joint) const override;
  Scores evaluate(LanguageModel& model, std::span<const Example> examples,
                  const EvaluationOptions& options) const override;
  std::vector<nlohmann::ordered_json> predict(LanguageModel& model, std::span<const Example> examples,
                                              const EvaluationOptions& options) const override;

 private:
  void read_loss(const Config& data);
  RowForm form_of_row(const Row& row) const;
  void check_negative(const Row& row) const;
  std::optional<std::string> score_column(const Row& row) const;
  double score(const Row& row) const;
  void choose_loss(RowForm form);
  Example text_of(const Row& row, const std::string& column, const std::string& prefix,
                  const Tokenizer* tokenizer) const {
    return encode_text(row, column, prefix + text_cell(row, column), std::nullopt, tokenizer, max_length_);
  }
  torch::Tensor labels_of(std::span<const Example* const> examples) const;
  torch::Tensor forward(const JointRows& joint, const JointPiece& piece, bool with_graph) const;
  static Scores retrieval(const DifferentTexts& texts, const torch::Tensor& unit);

  static constexpr const char *kNegative = "negative", *kLabel = "label";
  std::string text_ = "text", pair_ = "text_pair", negative_ = kNegative, label_ = kLabel;
  bool negative_named_ = false, label_named_ = false;
  int64_t max_length_ = 128, pad_id_ = 0, width_ = 1;
  std::string query_, passage_, embed_as_ = "query";
  std::string asked_loss_ = "auto";
  EmbeddingLoss loss_;
  std::optional<int64_t> negatives_batch_;
  std::vector<double> score_range_;  ///< empty, or what becomes 0 and 1
};

void Embedding::read_loss(const Config& data) {
  data.read_choice(
      "loss", asked_loss_, {"auto", "mnr", "cosent", "cosine"},
      "mnr: the right partner among those of the batch; cosent: the order of scored pairs; cosine: a pair's "
      "cosine is its score; auto: cosent for scored pairs, else mnr");
  data.read("temperature", loss_.temperature, "cosines are divided by it (mnr, cosent)");
  data.require(loss_.temperature > 0 && std::isfinite(loss_.temperature), "temperature", "a number above 0");
  data.read("both_directions", loss_.both_directions, "mnr: a partner must find its text too");
  data.read("negatives_batch", negatives_batch_,
            "rows whose texts are compared with each other (mnr, cosent), computed train.batch_size at a time; absent: "
            "train.batch_size");
  data.require(!negatives_batch_ || *negatives_batch_ >= 2, "negatives_batch", "a whole number from 2");
  data.read("matryoshka", loss_.widths,
            "the loss is the sum of those of the vectors' first so many entries, the whole width among them if named");
  data.require(std::all_of(loss_.widths.begin(), loss_.widths.end(), [](int64_t width) { return width >= 1; }),
               "matryoshka", "whole numbers from 1");
  data.read("score_range", score_range_, "[least, most]: scores that become 0 and 1 (cosine)");
  data.require(score_range_.empty() || (score_range_.size() == 2 && score_range_[0] < score_range_[1]), "score_range",
               "two numbers, the smaller one first");
}

void Embedding::table_options(TableOptions& options, bool labelled) const {
  options.wanted = columns(labelled);
  options.keys = {{text_, "data.text"}};
  if (text_ == "text") options.aliases[text_] = {"anchor", "query", "question", "sentence1"};
  if (!labelled) return;
  options.stand_ins.clear();
  options.keys.insert({{pair_, "data.text_pair"}, {negative_, "data.negative"}, {label_, "data.label"}});
  if (pair_ == "text_pair") options.aliases[pair_] = {"positive", "passage", "answer", "sentence2"};
  options.known = {kNegative, kLabel, "score"};
  options.check_row = [this](const Row& row) { check_negative(row); };
}

std::optional<std::string> Embedding::score_column(const Row& row) const {
  const auto there = [&](const std::string& column) {
    const auto found = row.fields.find(column);
    return !column.empty() && found != row.fields.end() && !found->is_null();
  };
  if (there(label_)) return label_;
  if (label_ == kLabel && there("score")) return "score";
  return std::nullopt;
}

RowForm Embedding::form_of_row(const Row& row) const {
  const auto found = negative_.empty() ? row.fields.end() : row.fields.find(negative_);
  const bool triplet = found != row.fields.end() && !found->is_null();
  const auto scored = score_column(row);
  check(!triplet || !scored, row.source, ": has a hard negative (column ", negative_, ") and a score (column ",
        scored.value_or(""), "); take one of them out, or set data.negative or data.label to ''");
  return triplet ? RowForm::triplets : scored ? RowForm::scored : RowForm::pairs;
}

/// Throws Error for a triplet whose wrong partner is the right one.
void Embedding::check_negative(const Row& row) const {
  check(form_of_row(row) != RowForm::triplets || text_cell(row, negative_) != text_cell(row, pair_), row.source, ": ",
        negative_, ": is the same text as ", pair_, "; a hard negative must be a wrong partner");
}

std::vector<Row> Embedding::documents(std::vector<Row> rows) const {
  std::optional<RowForm> first;
  RowErrors errors;
  for (const auto& row : rows) {
    try {
      const RowForm form = form_of_row(row);
      if (!first) first = form;
      if (form != *first)
        errors.add(row.source, cat("is ", form_name(form), ", but ", rows.front().source, " is ", form_name(*first),
                                   "; the rows of a file are all of one form"));
    } catch (const Error& e) {
      errors.add_what(row.source, e.what());
    }
  }
  errors.throw_if_any();
  return rows;
}

double Embedding::score(const Row& row) const {
  const double value = number_cell(row, score_column(row).value(), " (the score of a pair)");
  return score_range_.empty() ? value : (value - score_range_[0]) / (score_range_[1] - score_range_[0]);
}

void Embedding::choose_loss(RowForm form) {
  const bool scored = form == RowForm::scored;
  const std::string loss = asked_loss_ != "auto" ? asked_loss_ : scored ? "cosent" : "mnr";
  check((loss == "mnr") != scored, "data.loss: ", loss, " takes ", loss == "mnr" ? "pairs or triplets" : "scored pairs",
        ", but a training row is ", form_name(form),
        scored ? " (data.label: '' leaves the scores out)" : " (data.label names the column of the scores)");
  loss_.kind = loss == "mnr"      ? EmbeddingLossKind::mnr
               : loss == "cosent" ? EmbeddingLossKind::cosent
                                  : EmbeddingLossKind::cosine;
  check(!negatives_batch_ || joint(),
        "data.negatives_batch: with loss cosine no row is compared with another; train.batch_size is all there is");
  check(!loss_.both_directions || loss == "mnr", "data.both_directions: is for loss mnr, not for ", loss);
}

void Embedding::fit(std::span<const Row> train, std::span<const Row> all) {
  if (train.empty()) return;
  choose_loss(form_of_row(train.front()));
  if (loss_.kind != EmbeddingLossKind::cosine) return;
  RowErrors errors;
  for (const auto& row : all) {
    try {
      const double value = score(row);
      check(
          value >= -1 && value <= 1, row.source, ": ", score_column(row).value(),
          ": loss cosine compares scores with cosines, from -1 to 1; data.score_range: [least, most] brings them to 0 "
          "to 1, or take data.loss: cosent");
    } catch (const Error& e) {
      errors.add_what(row.source, e.what());
    }
  }
  errors.throw_if_any();
}

std::string Embedding::label_summary(std::span<const Example> examples) const {
  if (examples.empty()) return "";
  if (form_of(examples.front()) != RowForm::scored)
    return form_of(examples.front()) == RowForm::pairs ? "pairs" : "triplets";
  const auto [least, most] = std::minmax_element(examples.begin(), examples.end(),
                                                 [](const auto& a, const auto& b) { return a.targets < b.targets; });
  return cat("scored pairs, scores from ", nlohmann::json(least->targets.front()).dump(), " to ",
             nlohmann::json(most->targets.front()).dump());
}

Example Embedding::encode(const Row& row, const Tokenizer* tokenizer, bool labelled) const {
  if (!labelled) {
    Example out = row.fields.contains("input_ids")
                      ? encode_ids(row, max_length_)
                      : text_of(row, text_, embed_as_ == "query" ? query_ : passage_, tokenizer);
    out.source = row.source;
    return out;
  }
  Example out = text_of(row, text_, query_, tokenizer);
  out.source = row.source;
  out.others.push_back(text_of(row, pair_, passage_, tokenizer));
  switch (form_of_row(row)) {
    case RowForm::pairs: break;
    case RowForm::triplets:
      check_negative(row);
      out.others.push_back(text_of(row, negative_, passage_, tokenizer));
      break;
    case RowForm::scored: out.targets = {score(row)}; out.labelled = true;
  }
  for (const Example& other : out.others) {
    out.truncated |= other.truncated;
    out.tokens_cut += other.tokens_cut;
  }
  return out;
}

torch::Tensor Embedding::labels_of(std::span<const Example* const> examples) const {
  if (loss_.kind != EmbeddingLossKind::mnr) {
    std::vector<double> scores;
    for (const Example* example : examples) scores.push_back(example->targets.front());
    return torch::tensor(scores, torch::kFloat64);
  }
  std::vector<int64_t> numbers;
  for (const auto& row : DifferentTexts(examples).of_rows) numbers.insert(numbers.end(), row.begin(), row.end());
  return torch::tensor(numbers, torch::kInt64).view({static_cast<int64_t>(examples.size()), -1});
}

Batch Embedding::collate(std::span<const Example* const> examples) const {
  std::vector<const Example*> texts(examples.begin(), examples.end());
  const size_t others = examples.empty() ? 0 : examples.front()->others.size();
  for (size_t column = 0; column < others; ++column)
    for (const Example* example : examples) texts.push_back(&example->others.at(column));
  Batch batch = pad_texts(texts, pad_id_);
  if (others > 0) batch.labels = labels_of(examples);
  return batch;
}

torch::Tensor Embedding::forward(const JointRows& joint, const JointPiece& piece, bool with_graph) const {
  const torch::AutoGradMode grad(with_graph);
  const Autocast autocast(joint.device, joint.bf16);
  return joint.model.forward(collate(piece.rows).to(joint.device)).logits;
}

/// Vectors of all rows, then the loss's gradient with respect to them, then the model's. Where one forward pass holds
/// all rows of the process its graph is kept; else (gradient caching, Gao et al. 2021) every piece is computed again.
double Embedding::backward_jointly(const JointRows& joint) const {
  std::vector<JointPiece> pieces = pieces_of(joint);
  const bool keep = pieces.size() <= 1;
  const auto rows = static_cast<int64_t>(joint.rows.size());
  const auto texts = rows * static_cast<int64_t>(joint.rows.front()->others.size() + 1);
  torch::Tensor vectors =
      torch::zeros({texts, width_}, torch::TensorOptions().dtype(torch::kFloat64).device(joint.device));
  for (JointPiece& piece : pieces) {
    if (!keep) piece.dropout.emplace(joint.device);
    const torch::Tensor found = forward(joint, piece, keep);
    vectors.index_copy_(0, piece.places, found.detach().to(torch::kFloat64));
    if (keep) piece.vectors = found;
  }
  if (joint.group) joint.group->sum(vectors);
  vectors.requires_grad_();
  const torch::Tensor loss = embedding_loss(vectors, labels_of(joint.rows).to(joint.device), loss_);
  const double value = loss.item<double>() * static_cast<double>(rows);
  const torch::Tensor gradient =
      torch::autograd::grad({loss}, {vectors})[0] * (static_cast<double>(rows) / joint.divisor);
  for (JointPiece& piece : pieces) {
    if (!keep) {
      piece.dropout->restore();
      piece.vectors = forward(joint, piece, true);
    }
    check(piece.vectors.requires_grad(),
          "the loss does not depend on any trained tensor; check adapter.targets and model.output");
    piece.vectors.backward(gradient.index_select(0, piece.places).to(piece.vectors.scalar_type()));
    piece.vectors.reset();
  }
  return value;
}

/// Every different text is looked for by its partners among all different partners.
Scores Embedding::retrieval(const DifferentTexts& texts, const torch::Tensor& unit) {
  constexpr size_t kAtOnce = 256;
  std::map<size_t, size_t> candidate_of;           // number of a text -> its place among the candidates
  std::map<size_t, std::vector<size_t>> relevant;  // number of a text -> candidates
  std::vector<int64_t> candidates, queries;
  for (const auto& row : texts.of_rows) {
    const auto [found, fresh] = candidate_of.emplace(row[1], candidates.size());
    if (fresh) candidates.push_back(static_cast<int64_t>(row[1]));
    auto& right = relevant[row[0]];
    if (right.empty()) queries.push_back(static_cast<int64_t>(row[0]));
    if (std::find(right.begin(), right.end(), found->second) == right.end()) right.push_back(found->second);
  }
  const torch::Tensor corpus = unit.index_select(0, torch::tensor(candidates, torch::kInt64)).t().contiguous();
  std::vector<std::vector<size_t>> places;
  for (size_t start = 0; start < queries.size(); start += kAtOnce) {
    const std::vector<int64_t> chosen(
        queries.begin() + static_cast<ptrdiff_t>(start),
        queries.begin() + static_cast<ptrdiff_t>(std::min(queries.size(), start + kAtOnce)));
    const torch::Tensor similarities =
        torch::mm(unit.index_select(0, torch::tensor(chosen, torch::kInt64)), corpus).contiguous();
    for (size_t i = 0; i < chosen.size(); ++i)
      places.push_back(places_of(similarities.const_data_ptr<double>() + i * candidates.size(), candidates.size(),
                                 relevant.at(static_cast<size_t>(chosen[i]))));
  }
  const RetrievalScores found = retrieval_scores(std::move(places));
  return {.values = {{"mrr@10", found.mrr_10},
                     {"ndcg@10", found.ndcg_10},
                     {"recall@1", found.recall_1},
                     {"recall@10", found.recall_10},
                     {"map@100", found.map_100}}};
}

Scores Embedding::evaluate(LanguageModel& model, std::span<const Example> examples,
                           const EvaluationOptions& options) const {
  check(!examples.empty(), "nothing to evaluate: no rows with a partner");
  const torch::NoGradGuard no_grad;
  const DifferentTexts texts(as_pointers(examples));
  const torch::Tensor unit = normalized(all_logits(*this, model, texts.texts, options));
  const RowForm form = form_of(examples.front());
  if (form == RowForm::pairs) return retrieval(texts, unit);
  std::vector<double> right, wrong, scores;
  const auto cosine = [&](size_t a, size_t b) {
    return torch::dot(unit[static_cast<int64_t>(a)], unit[static_cast<int64_t>(b)]).item<double>();
  };
  for (size_t i = 0; i < examples.size(); ++i) {
    const auto& row = texts.of_rows[i];
    right.push_back(cosine(row[0], row[1]));
    if (form == RowForm::triplets) wrong.push_back(cosine(row[0], row[2]));
    else scores.push_back(examples[i].targets.front());
  }
  if (form == RowForm::scored)
    return {.values = {{"spearman", spearman(right, scores)}, {"pearson", pearson(right, scores)}}};
  double found = 0;
  for (size_t i = 0; i < right.size(); ++i) found += right[i] > wrong[i];
  return {.values = {{"accuracy", found / static_cast<double>(right.size())}}};
}

std::vector<nlohmann::ordered_json> Embedding::predict(LanguageModel& model, std::span<const Example> examples,
                                                       const EvaluationOptions& options) const {
  std::vector<nlohmann::ordered_json> out;
  if (examples.empty()) return out;
  std::vector<Example> texts;
  for (const Example& example : examples) texts.push_back(alone(example));
  const torch::Tensor vectors = all_logits(*this, model, texts, options).contiguous();
  const auto width = static_cast<size_t>(vectors.size(1));
  const double* values = vectors.const_data_ptr<double>();
  for (size_t i = 0; i < examples.size(); ++i)
    out.push_back({{"embedding", std::vector<double>(values + i * width, values + (i + 1) * width)}});
  return out;
}

}  // namespace

std::unique_ptr<Task> make_embedding(const Config& data) { return std::make_unique<Embedding>(data); }

}  // namespace deeplora
