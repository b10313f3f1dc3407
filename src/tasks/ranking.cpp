#include <torch/torch.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "core/log.h"
#include "tasks/label_names.h"
#include "tasks/ranking_metrics.h"
#include "tasks/text_task.h"
#include "core/number_text.h"
#include "text/row_errors.h"

namespace deeplora {
namespace {

/// Query and text read together give one score: how well the text answers. Rows of one query are judged by their order.
class Ranking : public TextTask {
 public:
  explicit Ranking(const Config& data)
      : TextTask("ranking", data,
                 {.text = "query", .text_pair = "text", .label = "label", .text_key = "query", .pair_key = "text"}) {
    data.read_choice("metric", headline_, {"mrr@10", "ndcg@10", "map", "loss"},
                     "chooses the best checkpoint; comparisons judge by it");
    data.require(!columns_.text_pair.empty(), "text", "the column of the texts that are ranked");
  }

  nlohmann::ordered_json settings() const override {
    auto out = TextTask::settings();
    out["metric"] = headline_;
    return out;
  }

  void fit_labels(std::span<const Row> train, std::span<const Row> all) override {
    RowErrors errors;
    largest_ = 0;
    for (const auto& row : all) {
      try {
        largest_ = std::max(largest_, relevance(row));
      } catch (const Error& e) {
        errors.add_what(row.source, e.what());
      }
    }
    errors.throw_if_any();
    const auto relevant = [&](const Row& row) { return relevance(row) > 0; };
    check(std::any_of(train.begin(), train.end(), relevant), "none of the ", train.size(),
          " training rows is relevant (column ", columns_.label, " above 0); a ranking needs some that are");
  }

  nlohmann::ordered_json label_state() const override { return {{"largest", largest_}}; }
  void restore_labels(const OrderedJsonFile& state) override {
    largest_ = state.at<double>("largest");
    check(largest_ > 0, state.name, ": largest: expected a number above 0, found ", largest_);
  }
  int64_t outputs() const override { return 1; }
  /// Dev and test get whole queries.
  std::string stays_with(const Row& row) const override { return cell(row, columns_.text); }

  Example encode(const Row& row, const Tokenizer* tokenizer, bool labelled) const override {
    Example out = TextTask::encode(row, tokenizer, labelled);
    if (labelled) out.query = cell(row, columns_.text);
    return out;
  }

  std::vector<Example> arrange(std::vector<Example> examples, std::string_view what) const override {
    std::map<std::string_view, std::pair<const Example*, bool>> queries;
    for (const auto& example : examples) {
      auto& [first, relevant] = queries[example.query];
      if (!first) first = &example;
      relevant = relevant || example.targets.front() > 0;
    }
    std::vector<std::string> without;
    for (const auto& [query, found] : queries)
      if (!found.second) without.push_back(found.first->source);
    check(without.size() < queries.size(), what, ": no query has a relevant text (", columns_.label,
          " above 0), so no order is better than another; the first rows of the queries: ", join(without, ", ", 4));
    if (!without.empty())
      log_warning(what, ": ", with_commas(without.size()), " of ", with_commas(queries.size()),
                  " queries have no relevant text (", columns_.label,
                  " above 0) and score 0 in any order: ", join(without, ", ", 4));
    return examples;
  }

  std::string label_summary(std::span<const Example> examples) const override {
    std::map<std::string_view, size_t> queries;
    for (const auto& example : examples) ++queries[example.query];
    const auto relevant =
        std::count_if(examples.begin(), examples.end(), [](const Example& e) { return e.targets.front() > 0; });
    return cat(with_commas(queries.size()), " queries, ", with_commas(static_cast<size_t>(relevant)),
               " relevant texts");
  }

  /// Binary cross-entropy with relevances from 0 to 1.
  torch::Tensor loss_sum(const ModelOutput& output, const Batch& batch) const override {
    return torch::binary_cross_entropy_with_logits(output.logits.to(torch::kFloat32).squeeze(-1), batch.labels, {}, {},
                                                   at::Reduction::Sum);
  }

 protected:
  void read_label(const Row& row, Example& example) const override { example.targets = {relevance(row)}; }

  /// [B] float32: relevances over the largest of the training file. More relevant texts of another file count as 1.
  torch::Tensor label_tensor(std::span<const Example* const> examples) const override {
    std::vector<float> values;
    for (const Example* example : examples)
      values.push_back(static_cast<float>(std::min(1.0, example->targets.front() / largest_)));
    return torch::tensor(values);
  }

  Scores scores(const torch::Tensor& logits, std::span<const Example> examples) const override {
    const RankingScores found = ranking_scores(by_query(logits, examples));
    return Scores::led_by(headline_,
                          {{"mrr@10", found.mrr_at_10},
                           {"ndcg@10", found.ndcg_at_10},
                           {"map", found.map},
                           {"loss", losses_of(logits, examples).mean().item<double>()}},
                          headline_ != "loss");
  }

  void describe(const torch::Tensor& logits, std::span<const Example> examples, Assessment& out) const override {
    const torch::Tensor losses = losses_of(logits, examples), found = logits.sigmoid();
    for (size_t i = 0; i < examples.size(); ++i) {
      const auto at = static_cast<int64_t>(i);
      out.rows[i].label = examples[i].targets.front();
      out.rows[i].prediction = found[at][0].item<double>();
      out.rows[i].loss = losses[at].item<double>();
    }
    const RankingScores scored = ranking_scores(by_query(logits, examples));
    out.details["queries"] = scored.queries;
    out.details["queries_without_relevant"] = scored.without_relevant;
  }

  nlohmann::ordered_json prediction(const torch::Tensor& logits) const override {
    return {{"prediction", logits[0].sigmoid().item<double>()}, {"logits", {logits[0].item<double>()}}};
  }

 private:
  double relevance(const Row& row) const {
    const std::string whole = cell(row, columns_.label);
    const std::string_view text = without_blanks(whole);
    double value = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
    check(failed == std::errc() && end == text.data() + text.size() && std::isfinite(value) && value >= 0, row.source,
          ": ", columns_.label, ": expected how relevant the text is, a number from 0, found '", whole, "'");
    return value;
  }

  /// [N] float64
  torch::Tensor losses_of(const torch::Tensor& logits, std::span<const Example> examples) const {
    std::vector<const Example*> all;
    for (const auto& example : examples) all.push_back(&example);
    return torch::binary_cross_entropy_with_logits(logits.squeeze(-1), label_tensor(all).to(torch::kFloat64), {}, {},
                                                   at::Reduction::None);
  }

  static std::vector<std::vector<RankedText>> by_query(const torch::Tensor& logits, std::span<const Example> examples) {
    const torch::Tensor column = logits.contiguous();
    std::map<std::string_view, std::vector<RankedText>> queries;
    for (size_t i = 0; i < examples.size(); ++i)
      queries[examples[i].query].push_back({column.const_data_ptr<double>()[i], examples[i].targets.front()});
    std::vector<std::vector<RankedText>> out;
    for (auto& [unused, texts] : queries) out.push_back(std::move(texts));
    return out;
  }

  std::string headline_ = "mrr@10";
  double largest_ = 1;
};

}  // namespace

std::unique_ptr<Task> make_ranking(const Config& data) { return std::make_unique<Ranking>(data); }

}  // namespace deeplora
