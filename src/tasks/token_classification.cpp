#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/log.h"
#include "tasks/batches.h"
#include "tasks/entities.h"
#include "tasks/label_names.h"
#include "tasks/label_report.h"
#include "tasks/metrics.h"
#include "tasks/row_words.h"
#include "tasks/task_state.h"
#include "tasks/text_rows.h"
#include "tasks/text_task.h"
#include "tasks/word_windows.h"
#include "text/plain_words.h"
#include "core/number_text.h"
#include "text/row_errors.h"

namespace deeplora {
namespace {

/// What a model made of the words of one row.
struct TaggedRow {
  std::shared_ptr<const RowWords> row;
  std::vector<int64_t> tags;          ///< -1: no piece of the word was read, and no tag says "outside"
  std::vector<double> probabilities;  ///< of these tags; 1 for words that were not read
  double loss = 0;                    ///< sum over the words that were read; NaN without labels
  int64_t read = 0;                   ///< words
};

/// Every example and the windows behind it.
std::vector<const Example*> windows_of(std::span<const Example> examples) {
  std::vector<const Example*> out;
  for (const auto& example : examples) {
    out.push_back(&example);
    for (const auto& window : example.windows) out.push_back(&window);
  }
  return out;
}

/// A tag for every word: the first piece of a word tells it, the others are read and not asked.
class TokenClassification : public Task {
 public:
  explicit TokenClassification(const Config& data) {
    data.read("text", words_column_, "column of the words: a list");
    data.read("label", tags_column_, "column of the tags: a list as long");
    data.read("max_length", max_length_,
              "longest input in tokens, special tokens included; longer rows are read in overlapping windows");
    data.require(max_length_ >= 8, "max_length", "at least 8 tokens");
    data.read("label_column", label_column_,
              "of conll files: column of the tags, by number from 0 or as the file names it; empty: the last");
    data.read("word_column", word_column_, "of conll files: column of the words; empty: the first");
    data.read_choice("tag_scheme", asked_scheme_, {"auto", "iob1", "iob2", "iobes", "bilou", "plain"},
                     "how tags mark entities; auto: as the training rows have them, tags that break the scheme being "
                     "counted; a scheme that is named is one that every row must keep");
    data.read_choice(
        "metric", metric_, {"auto", "f1", "precision", "recall", "strict_f1", "accuracy", "macro_f1", "loss"},
        "chooses the best checkpoint; comparisons judge by it; auto: f1 of entities, accuracy of plain tags");
    read_label_weights(data, weighting_, given_weights_);
  }

  std::string name() const override { return "token-classification"; }
  nlohmann::ordered_json settings() const override {
    return {{"text", words_column_},
            {"label", tags_column_},
            {"max_length", max_length_},
            {"label_column", label_column_},
            {"word_column", word_column_},
            {"tag_scheme", asked_scheme_},
            {"metric", metric_}};
  }
  std::vector<std::string> columns(bool labelled) const override {
    std::vector<std::string> out{words_column_};
    if (labelled) out.push_back(tags_column_);
    return out;
  }
  void table_options(TableOptions& options, bool labelled) const override {
    options.wanted = columns(labelled);
    options.keys = {{words_column_, "data.text"}, {tags_column_, "data.label"}};
    options.stand_ins.clear();
    if (labelled) options.check_row = [this](const Row& row) { tags_of(row); };
    options.conll = {.words = words_column_,
                     .tags = tags_column_,
                     .word_column = word_column_,
                     .tag_column = label_column_,
                     .needs_tags = labelled,
                     .usual = labelled};
  }

  void fit(std::span<const Row> train, std::span<const Row> all) override {
    std::set<std::string> found;
    std::vector<TaggedText> texts;
    RowErrors errors;
    for (const auto& row : all) {
      try {
        texts.push_back({row.source, tags_of(row)});
        found.insert(texts.back().tags.begin(), texts.back().tags.end());
      } catch (const Error& e) {
        errors.add_what(row.source, e.what());
      }
    }
    errors.throw_if_any();
    take_labels(found);
    for (auto& text : texts)
      for (auto& tag : text.tags) tag = labels_.names()[static_cast<size_t>(labels_.find(tag).value())];
    take_scheme(texts);
    check_metric();
    weigh(train);
  }

  void use_classes(const std::vector<std::string>& names) override { classes_ = names; }
  void use_model(const TaskModel& model) override {
    check(model.takes_ids, "a model without input_ids has no tokens that could be tagged");
    check(!model.has_decoder,
          "an encoder with a decoder gives no state of every word that could be tagged; take an encoder or a decoder "
          "alone");
  }
  nlohmann::ordered_json state() const override {
    nlohmann::ordered_json out{{"labels", labels_.names()}, {"tag_scheme", to_string(scheme_)}};
    if (labels_.are_the_models()) out["of_the_model"] = true;
    return out;
  }
  void restore(const OrderedJsonFile& state) override {
    labels_ = state.value("of_the_model", false) ? LabelNames::of_model(read_labels(state))
                                                 : LabelNames::in_order(read_labels(state));
    scheme_ = parse_tag_scheme(asked_scheme_ == "auto" ? state.at<std::string>("tag_scheme") : asked_scheme_);
    check_metric();
  }
  void set_pad_id(int64_t id) override { pad_id_ = id; }
  int64_t outputs() const override { return static_cast<int64_t>(labels_.size()); }
  bool takes_class_head() const override { return true; }
  bool tags_tokens() const override { return true; }
  std::string loss_unit() const override { return "word"; }
  std::string input_of(const Row& row) const override { return row.fields.at(words_column_).dump(); }

  Example encode(const Row& row, const Tokenizer* tokenizer, bool labelled) const override {
    check(tokenizer != nullptr, row.source, ": the model has no tokenizer, so its words cannot be read");
    auto words = std::make_shared<RowWords>(read_row_words(row, words_column_, labelled));
    if (labelled) words->tags = classes_of(row);
    try {
      return encode_words(std::move(words), *tokenizer);
    } catch (const Error& e) {
      fail(row.source, ": ", e.what());
    }
  }

  /// Windows are rows of their own from here on. Says what is read in several, and what is not read at all.
  std::vector<Example> arrange(std::vector<Example> examples, std::string_view what) const override {
    size_t words = 0, read = 0, longer = 0;
    std::string unread;
    std::vector<Example> out;
    for (auto& example : examples) {
      size_t cells = example.cells.size();
      for (const auto& window : example.windows) cells += window.cells.size();
      if (cells < example.words->words.size() && unread.empty()) unread = example.source;
      words += example.words->words.size();
      read += cells;
      longer += !example.windows.empty();
      std::vector<Example> windows = std::move(example.windows);
      example.windows.clear();
      out.push_back(std::move(example));
      for (auto& window : windows) out.push_back(std::move(window));
    }
    if (longer > 0)
      log_info(what, ": ", with_commas(longer), " of ", with_commas(examples.size()),
               " rows are longer than data.max_length and are read in overlapping windows, ", with_commas(out.size()),
               " inputs in all");
    if (read < words)
      log_warning(what, ": ", with_commas(words - read), " of ", with_commas(words),
                  " words give no piece of the tokenizer and are not read, the first at ", unread, "; they count as ",
                  labels_.find(kOutside) ? "tagged O" : "not tagged");
    return out;
  }

  /// Tags that break the scheme which most of them keep.
  std::vector<std::string> remarks(const std::vector<Row>& rows, bool labelled) const override {
    if (!labelled || asked_scheme_ != "auto") return {};
    size_t count = 0;
    std::string first;
    for (const auto& row : rows) {
      const std::string found = first_break(scheme_, names_of(classes_of(row)));
      if (!found.empty() && count++ == 0) first = cat(row.source, " (", found, ")");
    }
    if (count == 0) return {};
    return {cat(with_commas(count), " of ", with_commas(rows.size()), " rows break the tag scheme ", to_string(scheme_),
                ", the first ", first,
                "; such a tag begins an entity or ends one where the scores count them (data.tag_scheme: ",
                to_string(scheme_), " makes it a mistake)")};
  }

  std::vector<std::pair<std::string, size_t>> label_counts(std::span<const Example> examples) const override {
    std::vector<std::pair<std::string, size_t>> out;
    for (const auto& name : labels_.names()) out.emplace_back(name, 0);
    const RowWords* last = nullptr;
    for (const auto& example : examples) {
      if (example.words.get() == last) continue;  // another window of the same row
      last = example.words.get();
      for (const int64_t tag : last->tags) ++out[static_cast<size_t>(tag)].second;
    }
    return out;
  }
  std::string label_summary(std::span<const Example> examples) const override {
    std::vector<std::string> shown;
    for (const auto& [name, count] : label_counts(examples)) shown.push_back(cat(name, " ", with_commas(count)));
    return cat(scheme_ == TagScheme::plain ? "tags " : cat("tags (", to_string(scheme_), ") "), join(shown, ", ", 10));
  }

  Batch collate(std::span<const Example* const> examples) const override {
    Batch batch = pad_texts(examples, pad_id_);
    if (!std::all_of(examples.begin(), examples.end(), [](const Example* e) { return e->labelled; })) return batch;
    batch.labels = torch::full_like(batch.input_ids, kIgnored);
    auto labels = batch.labels.accessor<int64_t, 2>();
    for (size_t i = 0; i < examples.size(); ++i)
      for (size_t t = 0; t < examples[i]->label_ids.size(); ++t)
        labels[static_cast<int64_t>(i)][static_cast<int64_t>(t)] = examples[i]->label_ids[t];
    return batch;
  }

  double loss_count(const Batch& batch) const override {
    const torch::Tensor labels = batch.labels.to(torch::kCPU), asked = labels.masked_select(labels != kIgnored);
    return weights_.defined() ? weights_.index_select(0, asked).sum(torch::kFloat64).item<double>()
                              : static_cast<double>(asked.numel());
  }
  torch::Tensor loss_sum(const ModelOutput& output, const Batch& batch) const override {
    check_logits(output.logits, batch.input_ids);
    return torch::nn::functional::cross_entropy(
        output.logits.to(torch::kFloat32).flatten(0, 1), batch.labels.flatten(),
        torch::nn::functional::CrossEntropyFuncOptions()
            .reduction(torch::kSum)
            .ignore_index(kIgnored)
            .weight(weights_.defined() ? weights_.to(output.logits.device()) : weights_));
  }

  Scores evaluate(LanguageModel& model, std::span<const Example> examples,
                  const EvaluationOptions& options) const override {
    check(!examples.empty(), "nothing to evaluate: no labelled rows");
    return scores(tag(model, examples, options));
  }

  Assessment assess(LanguageModel& model, std::span<const Example> examples,
                    const EvaluationOptions& options) const override {
    check(!examples.empty(), "nothing to evaluate: no labelled rows");
    const auto rows = tag(model, examples, options);
    Assessment out;
    out.scores = scores(rows);
    for (const auto& row : rows) {
      RowResult& result = out.rows.emplace_back();
      result.source = row.row->source;
      result.label = names_of(row.row->tags);
      result.prediction = tags_json(row.tags);
      if (row.read > 0) result.loss = row.loss / static_cast<double>(row.read);
    }
    describe(rows, out.details);
    return out;
  }

  std::vector<nlohmann::ordered_json> predict(LanguageModel& model, std::span<const Example> examples,
                                              const EvaluationOptions& options) const override {
    std::vector<nlohmann::ordered_json> out;
    if (examples.empty()) return out;
    for (const auto& row : tag(model, examples, options)) {
      nlohmann::ordered_json one{{"entities", entities_json(row)}, {"tags", tags_json(row.tags)}};
      if (row.row->from_text) one["tokens"] = row.row->words;
      out.push_back(std::move(one));
    }
    return out;
  }

 private:
  std::vector<std::string> tags_of(const Row& row) const {
    const size_t words = read_row_words(row, words_column_, /*list=*/true).words.size();
    return read_row_tags(row, tags_column_, words, words_column_);
  }

  std::vector<int64_t> classes_of(const Row& row) const {
    std::vector<int64_t> out;
    for (const auto& tag : tags_of(row)) {
      const auto found = labels_.find(tag);
      check(found.has_value(), row.source, ": ", tags_column_, ": tag '", tag,
            labels_.are_the_models() ? "' is no class of the model's own head; known: "
                                     : "' does not occur in the training rows; known: ",
            join(labels_.names(), ", ", 12));
      out.push_back(*found);
    }
    if (asked_scheme_ != "auto") check_scheme(row.source, names_of(out));
    return out;
  }

  void check_scheme(const std::string& source, const std::vector<std::string>& tags) const {
    const std::string found = first_break(scheme_, tags);
    check(found.empty(), source, ": ", tags_column_, ": ", found, "; data.tag_scheme: ", asked_scheme_,
          " forbids it; correct the tag, or leave the key out");
  }

  /// A word without a tag is outside of all entities; of plain tags it has none: "".
  std::vector<std::string> names_of(const std::vector<int64_t>& classes) const {
    std::vector<std::string> out;
    for (const int64_t one : classes)
      out.push_back(one >= 0         ? labels_.names()[static_cast<size_t>(one)]
                    : has_entities() ? std::string(kOutside)
                                     : std::string());
    return out;
  }

  void take_labels(const std::set<std::string>& found) {
    try {
      labels_ = classes_.empty() ? LabelNames::of(found) : LabelNames::of_model(classes_, found);
    } catch (const Error& e) {
      fail("column ", tags_column_, ": ", e.what());
    }
    const auto& names = labels_.names();
    if (labels_.are_the_models())
      log_info("column ", tags_column_,
               ": tags are the classes of the model's own head, in its order: ", join(names, ", ", 10));
    check(names.size() >= 2, "the training rows hold only one tag, '", names.front(), "' (column ", tags_column_,
          "); expected at least two");
    check(names.size() <= 1000, "the training rows hold ", names.size(), " different tags in column ", tags_column_,
          " (", join(names, ", ", 4), "); is it the column of the tags?");
    for (const auto& [label, unused] : given_weights_)
      check(labels_.find(label).has_value(), "data.class_weights: '", label,
            "' is no tag; known: ", join(names, ", ", 12));
  }

  void take_scheme(const std::vector<TaggedText>& texts) {
    if (asked_scheme_ == "auto") {
      try {
        scheme_ = find_tag_scheme(texts);
      } catch (const Error& e) {
        fail("column ", tags_column_, ": ", e.what());
      }
      return;
    }
    scheme_ = parse_tag_scheme(asked_scheme_);
    RowErrors errors;
    for (const auto& text : texts) {
      try {
        check_scheme(text.source, text.tags);
      } catch (const Error& e) {
        errors.add_what(text.source, e.what());
      }
    }
    errors.throw_if_any();
  }

  bool has_entities() const { return scheme_ != TagScheme::plain; }
  void check_metric() const {
    const bool of_both = metric_ == "auto" || metric_ == "accuracy" || metric_ == "loss";
    check(of_both || has_entities() == (metric_ != "macro_f1"), "data.metric: ", metric_,
          has_entities()
              ? ": the tags mark entities, whose score is f1; choose f1, precision, recall, strict_f1, accuracy or loss"
              : ": it is one of entities, but the tags are plain; choose accuracy, macro_f1 or loss");
  }

  /// As scikit-learn weighs classes: words / (tags among them x words with the tag).
  void weigh(std::span<const Row> train) {
    if (weighting_ == "none" && given_weights_.empty()) return;
    std::vector<double> weights(labels_.size(), 1.0), counts(labels_.size());
    for (const auto& [label, weight] : given_weights_) weights[static_cast<size_t>(*labels_.find(label))] = weight;
    double words = 0;
    for (const auto& row : train)
      for (const int64_t tag : classes_of(row)) ++counts[static_cast<size_t>(tag)], ++words;
    const auto present =
        static_cast<double>(std::count_if(counts.begin(), counts.end(), [](double count) { return count > 0; }));
    for (size_t i = 0; weighting_ == "balanced" && i < weights.size(); ++i)
      if (counts[i] > 0) weights[i] = words / (present * counts[i]);
    weights_ = torch::tensor(weights, torch::kFloat32);
  }

  Example encode_words(std::shared_ptr<const RowWords> words, const Tokenizer& tokenizer) const {
    size_t begin = 0;
    const size_t special = tokenizer.surround({}, begin).ids.size();
    check(special < static_cast<size_t>(max_length_), "data.max_length: ", max_length_, " has no room beside the ",
          special, " special tokens");
    const size_t room = static_cast<size_t>(max_length_) - special;
    std::vector<std::vector<int64_t>> pieces;
    std::vector<size_t> counts;
    for (const auto& word : words->words) {
      pieces.push_back(tokenizer.tokenize_word(word));
      if (pieces.back().size() > room) pieces.back().resize(room);  // its first piece is what is asked
      counts.push_back(pieces.back().size());
    }
    Example out;
    for (const WordWindow& window : word_windows(counts, room)) {
      Example one = encode_window(window, pieces, words, tokenizer);
      if (out.words) out.windows.push_back(std::move(one));
      else out = std::move(one);
    }
    return out;
  }

  static Example encode_window(const WordWindow& window, const std::vector<std::vector<int64_t>>& pieces,
                               const std::shared_ptr<const RowWords>& words, const Tokenizer& tokenizer) {
    std::vector<int64_t> ids;
    std::map<size_t, size_t> places;
    for (size_t word = window.begin; word < window.end; ++word) {
      if (!pieces[word].empty()) places[word] = ids.size();
      ids.insert(ids.end(), pieces[word].begin(), pieces[word].end());
    }
    size_t begin = 0;
    Encoding encoding = tokenizer.surround(std::move(ids), begin);
    check(!encoding.ids.empty(),
          "no word gives a piece of the tokenizer, which adds no token of its own; leave the row out");
    Example out;
    out.source = words->source;
    out.words = words;
    out.input_ids = std::move(encoding.ids);
    out.token_type_ids = std::move(encoding.type_ids);
    out.labelled = !words->tags.empty();
    if (out.labelled) out.label_ids.assign(out.input_ids.size(), kIgnored);
    for (const size_t word : window.decided) {
      const auto place = places.find(word);
      if (place == places.end()) continue;
      const size_t cell = begin + place->second;
      out.cells.push_back({static_cast<int64_t>(word), static_cast<int64_t>(cell)});
      if (out.labelled) out.label_ids[cell] = words->tags[word];
    }
    return out;
  }

  void check_logits(const torch::Tensor& logits, const torch::Tensor& ids) const {
    const bool fits = logits.defined() && logits.dim() == 3 && logits.size(0) == ids.size(0) &&
                      logits.size(1) == ids.size(1) && logits.size(2) == outputs();
    check(fits, "expected logits of every token [", ids.size(0), ", ", ids.size(1), ", ", outputs(), "], found ",
          logits.defined() ? cat(logits.sizes()) : std::string("none"));
  }

  /// Logits [N, C] float64 of the words that windows decide, window by window.
  torch::Tensor word_logits(LanguageModel& model, const std::vector<const Example*>& windows,
                            const EvaluationOptions& options) const {
    std::vector<int64_t> first;
    int64_t count = 0;
    for (const Example* window : windows) {
      first.push_back(count);
      count += static_cast<int64_t>(window->cells.size());
    }
    torch::Tensor out = torch::zeros({count, outputs()}, torch::kFloat64);
    each_batch(*this, model, windows, options, [&](std::span<const size_t> places, const torch::Tensor& logits) {
      check(logits.dim() == 3 && logits.size(2) == outputs(), "expected logits of every token [B, T, ", outputs(),
            "], found ", logits.sizes());
      for (size_t i = 0; i < places.size(); ++i) {
        std::vector<int64_t> cells;
        for (const WordCell& one : windows[places[i]]->cells) cells.push_back(one.cell);
        out.narrow(0, first[places[i]], static_cast<int64_t>(cells.size()))
            .copy_(logits[static_cast<int64_t>(i)].index_select(0, torch::tensor(cells, torch::kInt64)));
      }
    });
    if (options.group) options.group->sum(out);  // zeros for the windows of others
    return out;
  }

  /// The rows of examples, whose windows follow each other.
  std::vector<TaggedRow> tag(LanguageModel& model, std::span<const Example> examples,
                             const EvaluationOptions& options) const {
    const std::vector<const Example*> windows = windows_of(examples);
    const torch::Tensor log_probabilities = word_logits(model, windows, options).log_softmax(1).contiguous(),
                        best = log_probabilities.argmax(1).contiguous();
    const double* values = log_probabilities.const_data_ptr<double>();
    const int64_t* chosen = best.const_data_ptr<int64_t>();
    const auto width = labels_.size();
    std::vector<TaggedRow> out;
    for (const Example* window : windows) {
      if (out.empty() || out.back().row != window->words) {
        const size_t words = window->words->words.size();
        out.push_back({.row = window->words,
                       .tags = std::vector<int64_t>(words, labels_.find(kOutside).value_or(-1)),
                       .probabilities = std::vector<double>(words, 1.0)});
      }
      TaggedRow& row = out.back();
      for (const WordCell& one : window->cells) {
        const auto word = static_cast<size_t>(one.word);
        row.tags[word] = *chosen;
        row.probabilities[word] = std::exp(values[*chosen]);
        if (window->labelled) row.loss -= values[row.row->tags[word]];
        ++row.read;
        ++chosen;
        values += width;
      }
    }
    return out;
  }

  /// Expected and predicted tags of all rows by their names.
  std::pair<TagLists, TagLists> both_sides(const std::vector<TaggedRow>& rows) const {
    std::pair<TagLists, TagLists> out;
    for (const auto& row : rows) {
      out.first.push_back(names_of(row.row->tags));
      out.second.push_back(names_of(row.tags));
    }
    return out;
  }

  /// Expected and predicted classes of all words, C for a word without a tag.
  std::pair<std::vector<int64_t>, std::vector<int64_t>> all_classes(const std::vector<TaggedRow>& rows) const {
    std::pair<std::vector<int64_t>, std::vector<int64_t>> out;
    for (const auto& row : rows) {
      out.first.insert(out.first.end(), row.row->tags.begin(), row.row->tags.end());
      for (const int64_t tag : row.tags) out.second.push_back(tag < 0 ? outputs() : tag);
    }
    return out;
  }

  Scores scores(const std::vector<TaggedRow>& rows) const {
    const auto [expected, predicted] = all_classes(rows);
    double loss = 0, read = 0;
    for (const auto& row : rows) loss += row.loss, read += static_cast<double>(row.read);
    const std::pair<std::string, double> mean_loss{"loss", loss / read},
        right{"accuracy", accuracy(predicted, expected)};
    const bool ascends = metric_ != "loss";
    if (!has_entities())
      return Scores::led_by(metric_ == "auto" ? "accuracy" : metric_,
                            {right, {"macro_f1", f1_macro(predicted, expected)}, mean_loss}, ascends);
    const auto [expected_tags, predicted_tags] = both_sides(rows);
    const EntityScores found = entity_scores(expected_tags, predicted_tags).all;
    return Scores::led_by(metric_ == "auto" ? "f1" : metric_,
                          {{"f1", found.f1},
                           {"precision", found.precision},
                           {"recall", found.recall},
                           {"strict_f1", strict_entity_scores(expected_tags, predicted_tags, scheme_).all.f1},
                           right,
                           mean_loss},
                          ascends);
  }

  static nlohmann::ordered_json table_json(const EntityReport& report) {
    auto out = nlohmann::ordered_json::object();
    for (const auto& [type, scores] : report.by_type)
      out[type] = {
          {"precision", scores.precision}, {"recall", scores.recall}, {"f1", scores.f1}, {"support", scores.support}};
    return out;
  }

  /// per_label: of entities by their type, of plain tags by tag.
  void describe(const std::vector<TaggedRow>& rows, nlohmann::ordered_json& details) const {
    details["tag_scheme"] = to_string(scheme_);
    if (!has_entities()) {
      const auto [expected, predicted] = all_classes(rows);
      auto each = label_scores(confusion_matrix(predicted, expected, labels_.size() + 1));
      each.pop_back();  // words without a tag
      details["per_label"] = per_label_json(labels_.names(), each);
      return;
    }
    const auto [expected, predicted] = both_sides(rows);
    details["per_label"] = table_json(entity_scores(expected, predicted));
    const EntityReport strict = strict_entity_scores(expected, predicted, scheme_);
    details["strict"] = {{"precision", strict.all.precision},
                         {"recall", strict.all.recall},
                         {"f1", strict.all.f1},
                         {"per_label", table_json(strict)}};
  }

  nlohmann::ordered_json tags_json(const std::vector<int64_t>& classes) const {
    auto out = nlohmann::ordered_json::array();
    for (const int64_t one : classes)
      out.push_back(one < 0 ? nlohmann::ordered_json()
                            : nlohmann::ordered_json(labels_.names()[static_cast<size_t>(one)]));
    return out;
  }

  /// Entities as the scores count them (BILOU by its spelling in IOBES), with the mean probability of their tags.
  nlohmann::ordered_json entities_json(const TaggedRow& row) const {
    auto out = nlohmann::ordered_json::array();
    if (!has_entities()) return out;
    auto tags = names_of(row.tags);
    if (scheme_ == TagScheme::bilou) tags = as_iobes(std::move(tags));
    for (const Entity& entity : entities_of(tags)) {
      const TokenOffsets place{row.row->offsets[entity.begin].begin, row.row->offsets[entity.end - 1].end};
      double sum = 0;
      for (size_t word = entity.begin; word < entity.end; ++word) sum += row.probabilities[word];
      out.push_back({{"label", entity.type},
                     {"text", slice(row.row->text, place)},
                     {"start", place.begin},
                     {"end", place.end},
                     {"score", sum / static_cast<double>(entity.end - entity.begin)}});
    }
    return out;
  }

  std::string words_column_ = "tokens", tags_column_ = "tags", label_column_, word_column_;
  std::string asked_scheme_ = "auto", metric_ = "auto", weighting_ = "none";
  std::map<std::string, double> given_weights_;
  int64_t max_length_ = 128, pad_id_ = 0;
  std::vector<std::string> classes_;  ///< of the model's own head; empty where that is new
  LabelNames labels_;
  TagScheme scheme_ = TagScheme::plain;
  torch::Tensor weights_;  ///< [C], undefined where all are 1
};

}  // namespace

std::unique_ptr<Task> make_token_classification(const Config& data) {
  return std::make_unique<TokenClassification>(data);
}

}  // namespace deeplora
