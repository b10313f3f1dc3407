#include <torch/torch.h>

#include <algorithm>

#include "tasks/language_task.h"
#include "tasks/token_loss.h"
#include "core/number_text.h"
#include "text/row_errors.h"

namespace deeplora {
namespace {

/// A source text in, a target text out.
class Seq2Seq : public LanguageTask {
 public:
  explicit Seq2Seq(const Config& data) : LanguageTask("seq2seq", data, text_scoring()) {
    data.read("text", text_, "column of the source text");
    data.read("target", target_, "column of the target text");
    data.read("max_target_length", max_target_length_,
              "longest target in tokens, special tokens included; absent: max_length");
    data.read("source_language", languages_.source,
              "code of the source's language, for tokenizers that mark texts with it (en_XX, eng_Latn); empty: the "
              "tokenizer's own");
    data.read("target_language", languages_.target, "code of the target's language; empty: the tokenizer's own");
    data.require(!max_target_length_ || *max_target_length_ >= 2, "max_target_length", "a whole number from 2");
  }

  nlohmann::ordered_json settings() const override {
    auto out = LanguageTask::settings();
    out.update({{"text", text_},
                {"target", target_},
                {"max_target_length", most_target()},
                {"source_language", languages_.source},
                {"target_language", languages_.target}});
    return out;
  }

  Languages languages() const override { return languages_; }

  std::vector<std::string> columns(bool labelled) const override {
    std::vector<std::string> out = prompt_template_.empty() ? std::vector<std::string>{text_} : template_columns();
    if (labelled) out.push_back(target_);
    return out;
  }

  void table_options(TableOptions& options, bool labelled) const override {
    options.wanted = columns(labelled);
    options.stand_ins = {"input_ids", references_column_};
    options.keys = {{text_, "data.text"}, {target_, "data.target"}};
  }

  std::string input_of(const Row& row) const override {
    return row.fields.contains("input_ids") ? row.fields["input_ids"].dump() : prompt_text(row, text_, "text");
  }

  std::vector<std::string> remarks(const std::vector<Row>& rows, bool labelled) const override {
    auto out = LanguageTask::remarks(rows, labelled);
    size_t empty = 0;
    std::string first;
    for (const auto& row : rows) {
      const auto source = row.fields.find(text_);
      if (row.fields.contains("input_ids") || source == row.fields.end() || *source != "") continue;
      if (empty++ == 0) first = row.source;
    }
    if (empty > 0 && prompt_template_.empty())
      out.push_back(
          cat(with_commas(empty), " of ", with_commas(rows.size()), " rows have an empty text, the first at ", first));
    return out;
  }

  void use_model(const TaskModel& model) override {
    LanguageTask::use_model(model);
    start_ = model_token(model, "decoder_start_token_id");
    check(start_ >= 0, "task seq2seq: the model's config.json names no decoder_start_token_id");
    positions_ = model.config.value("max_position_embeddings", int64_t{0});
    limit_length(positions_);
  }

  Example encode(const Row& row, const Tokenizer* /*the model's*/, bool labelled) const override {
    Example out;
    out.source = row.source;
    out.labelled = labelled;
    if (row.fields.contains("input_ids")) {
      encode_ids(row, out);
      return out;
    }
    const std::string source = prompt_text(row, text_, "text");
    if (labelled) out.references = references_of(row, target_, "target");
    try {
      Encoding encoding = tokenizer(row).encode(source, std::nullopt, max_length_);
      out.input_ids = std::move(encoding.ids);
      out.truncated = encoding.truncated;
      check(!out.input_ids.empty(), row.source,
            ": an empty source, and the tokenizer adds no token of its own; the model needs at least one ",
            "token (leave the row out)");
      if (labelled) encode_target(row, out);
    } catch (const Error& e) {
      const std::string message = e.what();
      fail(message.starts_with(row.source) ? "" : row.source + ": ", message);
    }
    return out;
  }

  Batch collate(std::span<const Example* const> examples) const override {
    size_t width = 1, target = 1;
    for (const Example* example : examples) {
      width = std::max(width, example->input_ids.size());
      target = std::max(target, example->label_ids.size());
    }
    const auto rows = static_cast<int64_t>(examples.size());
    Batch batch;
    batch.input_ids = torch::full({rows, static_cast<int64_t>(width)}, pad_id_, torch::kInt64);
    batch.attention_mask = torch::zeros({rows, static_cast<int64_t>(width)}, torch::kInt64);
    batch.decoder_input_ids = torch::full({rows, static_cast<int64_t>(target)}, pad_id_, torch::kInt64);
    batch.labels = torch::full({rows, static_cast<int64_t>(target)}, kIgnored, torch::kInt64);
    auto ids = batch.input_ids.accessor<int64_t, 2>();
    auto mask = batch.attention_mask.accessor<int64_t, 2>();
    auto decoder = batch.decoder_input_ids.accessor<int64_t, 2>();
    auto labels = batch.labels.accessor<int64_t, 2>();
    for (int64_t i = 0; i < rows; ++i) {
      const Example& example = *examples[static_cast<size_t>(i)];
      for (size_t t = 0; t < example.input_ids.size(); ++t) {
        ids[i][static_cast<int64_t>(t)] = example.input_ids[t];
        mask[i][static_cast<int64_t>(t)] = 1;
      }
      decoder[i][0] = start_;
      for (size_t t = 0; t < example.label_ids.size(); ++t) {
        const int64_t label = example.label_ids[t];
        labels[i][static_cast<int64_t>(t)] = label;
        if (t + 1 < target) decoder[i][static_cast<int64_t>(t) + 1] = label == kIgnored ? pad_id_ : label;
      }
    }
    return batch;
  }

 protected:
  const std::vector<int64_t>& prompt_of(const Example& example) const override { return example.input_ids; }
  bool takes_decoder() const override { return true; }
  int64_t new_token_limit(const std::vector<int64_t>&) const override { return positions_ > 0 ? positions_ - 1 : 0; }

 private:
  int64_t most_target() const {
    const int64_t most = max_target_length_.value_or(max_length_);
    return positions_ > 0 ? std::min(most, positions_) : most;
  }

  void encode_target(const Row& row, Example& out) const {
    if (out.references.front().empty()) return;  // nothing to predict: arrange() reports it
    auto& ids = out.label_ids = tokenizer(row).encode_target(out.references.front()).ids;
    // A language code may stand behind the end token.
    const auto last = ids.end() - static_cast<std::ptrdiff_t>(std::min<size_t>(ids.size(), 2));
    if (eos_id_ >= 0 && std::find(last, ids.end(), eos_id_) == ids.end()) ids.push_back(eos_id_);
    fit_answer(out.label_ids, most_target(), out, "the target");
  }

  void encode_ids(const Row& row, Example& out) const {
    out.input_ids = read_model_ids(row, false).input_ids;
    if (static_cast<int64_t>(out.input_ids.size()) > max_length_) {
      out.truncated = true;
      out.input_ids.resize(static_cast<size_t>(max_length_));
    }
    if (!out.labelled) return;
    check(row.fields.contains("labels"), row.source, ": a row with input_ids needs labels, the target's ids");
    out.label_ids = whole_numbers(row, "labels", true);
    fit_answer(out.label_ids, most_target(), out, "the target");
  }

  std::string text_ = "text", target_ = "target";
  Languages languages_;
  std::optional<int64_t> max_target_length_;
  int64_t start_ = 0, positions_ = 0;
};

}  // namespace

std::unique_ptr<Task> make_seq2seq(const Config& data) { return std::make_unique<Seq2Seq>(data); }

}  // namespace deeplora
