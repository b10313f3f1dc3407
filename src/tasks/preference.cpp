#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "lm/autocast.h"
#include "tasks/decoder_task.h"
#include "tasks/preference_loss.h"
#include "tasks/row_ids.h"

namespace deeplora {
namespace {

using Json = nlohmann::ordered_json;

/// Two answers to one question, the first preferred: texts behind a prompt, or messages behind a conversation.
struct Pair {
  std::string prompt;
  std::array<std::string, 2> texts;
  Conversation question;
  std::array<std::vector<ChatMessage>, 2> messages;  ///< empty: texts

  bool chat() const { return !messages[0].empty(); }
};

/// How many elements two sequences have in common from their first on, but one of the shorter one is left over: what
/// stands behind is an answer.
template <class Sequence>
size_t common_beginning(const Sequence& a, const Sequence& b) {
  const size_t most = std::min(a.size(), b.size());
  for (size_t i = 0; i < most; ++i)
    if (a[i] != b[i]) return i;
  return most - 1;
}

/// A list of messages, or one message alone.
std::vector<ChatMessage> messages_of(const Json& value, std::string_view where) {
  return read_sharegpt(value.is_object() ? Json::array({value}) : value, where);
}

/// Which of two answers to a prompt is preferred. One row is a pair: one example, two rows of a batch.
class Preference : public DecoderTask {
 public:
  explicit Preference(const Config& data)
      : DecoderTask("preference", data,
                    {{"loss", "accuracy", "margin"}, "chooses the best checkpoint; comparisons judge by it", false}) {
    data.read(
        "chosen", chosen_,
        "column of the answer that is preferred: a text, messages, or a conversation that begins as the rejected");
    data.read("rejected", rejected_, "column of the other answer");
    data.read_choice("loss", loss_, {"dpo", "orpo"},
                     "dpo: against the log-probabilities of the model as it was loaded; orpo: odds ratio beside the "
                     "cross-entropy of the chosen sequences");
    data.read("beta", beta_,
              "dpo: how much straying from the model as it was loaded counts; orpo: weight of the odds ratio (lambda)");
    data.require(beta_ > 0 && std::isfinite(beta_), "beta", "a number above 0");
  }

  Json settings() const override {
    auto out = DecoderTask::settings();
    out.update({{"chosen", chosen_}, {"rejected", rejected_}, {"loss", loss_}, {"beta", beta_}});
    return out;
  }

  /// Where the prompt is, each row tells.
  std::vector<std::string> columns(bool labelled) const override {
    std::vector<std::string> out = template_columns();
    if (!labelled) return out.empty() ? std::vector<std::string>{prompt_} : out;
    out.insert(out.end(), {chosen_, rejected_});
    return out;
  }

  void table_options(TableOptions& options, bool labelled) const override {
    options.wanted = columns(labelled);
    options.known = {prompt_, chosen_, rejected_, messages_, kShareGptColumn, "instruction"};
    options.keys = {{prompt_, "data.prompt"}, {chosen_, "data.chosen"}, {rejected_, "data.rejected"}};
    if (labelled) options.check_row = [this](const Row& row) { check_pair(row); };
    if (labelled) options.stand_ins.clear();
    else options.stand_ins = {"input_ids", messages_, kShareGptColumn, "instruction", chosen_};
  }

  std::string label_summary(std::span<const Example>) const override {
    return "pairs, lengths of both sequences together";
  }

  /// Pairs of one question are dealt out together.
  std::string stays_with(const Row& row) const override {
    if (row.fields.contains("input_ids")) return row.fields["input_ids"].dump();
    try {
      const Pair pair = read_pair(row);
      std::string out = pair.prompt;
      for (const auto& message : pair.question.messages) out += cat(message.role, '\0', message.text, '\0');
      return out;
    } catch (const Error&) {
      return input_of(row);  // encode() says what is wrong with it
    }
  }

  Example encode(const Row& row, const Tokenizer* /*the model's*/, bool labelled) const override {
    Example out;
    out.source = row.source;
    out.labelled = labelled;
    if (!labelled) {
      encode_prompt(row, out);
      return out;
    }
    std::array<Example, 2> sides{out, out};
    if (row.fields.contains("input_ids")) encode_ids(row, sides);
    else encode_texts(row, sides);
    put_together(sides, out);
    return out;
  }

  Batch collate(std::span<const Example* const> examples) const override {
    const bool pairs = std::all_of(examples.begin(), examples.end(), [](const Example* e) { return e->second > 0; });
    if (!pairs) return DecoderTask::collate(examples);
    std::vector<Example> sides;
    for (const Example* example : examples) split(*example, sides);
    std::vector<const Example*> rows;
    for (const Example& side : sides) rows.push_back(&side);
    Batch batch = DecoderTask::collate(rows);
    batch.beside["answers"] = batch.labels != kIgnored;
    if (loss_ == "orpo") label_prompts(batch);
    else add_reference(examples, batch);
    return batch;
  }

  std::string loss_unit() const override { return "row"; }
  double loss_count(const Batch& batch) const override { return static_cast<double>(batch.labels.size(0) / 2); }
  double second_count(const Batch& batch) const override {
    if (loss_ != "orpo") return 0;
    return static_cast<double>((batch.labels.slice(0, 0, std::nullopt, 2) != kIgnored).sum().item<int64_t>());
  }
  torch::Tensor loss_sum(const ModelOutput& output, const Batch& batch) const override {
    return loss_from(token_losses_of(output, batch), batch);
  }
  torch::Tensor loss_of(LanguageModel& model, const Batch& batch) const override {
    return loss_from(token_losses_of(model, batch), batch);
  }

  bool needs_reference() const override { return loss_ == "dpo"; }
  void refer(LanguageModel& model, std::span<Example> examples, const EvaluationOptions& options) const override {
    const torch::Tensor sums = scores_of(model, examples, options).sums.contiguous();
    const double* values = sums.const_data_ptr<double>();
    for (Example& example : examples) {
      example.reference.assign(values, values + 2);
      values += 2;
    }
  }

  Assessment assess(LanguageModel& model, std::span<const Example> examples,
                    const EvaluationOptions& options) const override {
    check(!examples.empty(), "nothing to evaluate: no rows");
    std::vector<const Example*> all;
    for (const Example& example : examples) all.push_back(&example);
    const AnswerScores found = scores_of(model, examples, options);
    const PairLosses pairs = pair_losses(found, reference_of(all));
    torch::Tensor each = pairs.losses, loss = each.mean();
    if (loss_ == "orpo") {
      each = each + found.text_losses / found.text_counts;
      loss = loss + found.text_losses.sum() / found.text_counts.sum();
    }
    const torch::Tensor margins = pairs.rewards.select(1, 0) - pairs.rewards.select(1, 1);
    Assessment out;
    out.scores = Scores::led_by(metric_,
                                {{"loss", loss.item<double>()},
                                 {"accuracy", (margins > 0).to(torch::kFloat64).mean().item<double>()},
                                 {"margin", margins.mean().item<double>()}},
                                metric_ != "loss");
    for (size_t i = 0; i < examples.size(); ++i) {
      out.rows.emplace_back();
      out.rows.back().source = examples[i].source;
      out.rows.back().prediction = margins[static_cast<int64_t>(i)].item<double>();
      out.rows.back().loss = each[static_cast<int64_t>(i)].item<double>();
    }
    return out;
  }

 protected:
  bool holds_conversation(const Row& row) const override {
    const auto structured = [&](const std::string& column) {
      const auto found = row.fields.find(column);
      return found != row.fields.end() && found->is_structured();
    };
    if (row.fields.contains("input_ids")) return false;
    return DecoderTask::holds_conversation(row) || structured(prompt_) || structured(chosen_);
  }

  /// A prompt may be a list of messages too.
  Conversation question_of(const Row& row) const override {
    const auto prompt = row.fields.find(prompt_);
    if (is_conversation(row, messages_) || prompt == row.fields.end() || !prompt->is_structured())
      return DecoderTask::question_of(row);
    Conversation out;
    out.messages = messages_of(*prompt, cat(row.source, ": ", prompt_));
    out.tools = read_objects(row.fields, "tools", row.source);
    out.documents = read_objects(row.fields, "documents", row.source);
    return out;
  }

 private:
  const Json& cell(const Row& row, const std::string& column, const char* key) const {
    const auto found = row.fields.find(column);
    std::vector<std::string> there;
    for (const auto& item : row.fields.items()) there.push_back(item.key());
    check(found != row.fields.end(), row.source, ": no column '", column, "' (data.", key, "); found ", join(there),
          did_you_mean(column, there));
    return *found;
  }

  /// Throws Error for a row whose answers are none to choose between.
  void check_pair(const Row& row) const {
    if (row.fields.contains("input_ids")) check_differ(row);
    else read_pair(row);
  }

  void check_differ(const Row& row) const {
    check(cell(row, chosen_, "chosen") != cell(row, rejected_, "rejected"), row.source, ": ", chosen_, " and ",
          rejected_, " are the same, so that neither is preferred; leave the row out");
  }

  Pair read_pair(const Row& row) const {
    const Json &chosen = cell(row, chosen_, "chosen"), &rejected = cell(row, rejected_, "rejected");
    check(chosen.is_structured() == rejected.is_structured(), row.source, ": ", chosen_, " and ", rejected_,
          ": expected two texts or two lists of messages, found ", shown(chosen), " and ", shown(rejected));
    check_differ(row);
    Pair out = chosen.is_structured() ? pair_of_messages(row, chosen, rejected) : pair_of_texts(row);
    for (const size_t side : {0, 1}) check_answer(row, out, side);
    return out;
  }

  Pair pair_of_texts(const Row& row) const {
    Pair out;
    out.texts = {text_of(row, chosen_, "chosen"), text_of(row, rejected_, "rejected")};
    if (holds_conversation(row) || prompts_are_messages(row, true)) {
      out.question = question_of(row);
      for (const size_t side : {0, 1}) out.messages[side] = {make_message("assistant", out.texts[side])};
    } else if (is_prompt(row)) {
      out.prompt = plain_prompt(row);
    } else {
      take_prompt_of_texts(row, out);
    }
    return out;
  }

  /// Texts that hold their prompt: their common beginning. Only where no other column can be the prompt.
  void take_prompt_of_texts(const Row& row, Pair& pair) const {
    std::vector<std::string> others;
    for (const auto& item : row.fields.items())
      if (item.value().is_string() && item.key() != chosen_ && item.key() != rejected_) others.push_back(item.key());
    check(others.empty() && prompt_ == "prompt", row.source, ": no column '", prompt_, "' and no messages; found ",
          join(others), did_you_mean(prompt_, others), "; name the column of the prompt in data.prompt");
    auto& [chosen, rejected] = pair.texts;
    if (chosen.empty() || rejected.empty()) return;  // check_answer() says so
    size_t same = common_beginning(chosen, rejected);
    while (same > 0 && (chosen[same] & 0xC0) == 0x80) --same;  // not within a character
    if (same > 0 && chosen[same - 1] == ' ') --same;           // as TRL has it: the answer keeps its space
    check(same > 0, row.source, ": no column '", prompt_, "', and ", chosen_, " and ", rejected_,
          " have no beginning in common that could be the prompt");
    pair.prompt = chosen.substr(0, same);
    chosen.erase(0, same);
    rejected.erase(0, same);
  }

  /// Whole conversations bring their question: what they have in common before the first answer that differs. Else
  /// they are answers to the row's messages or prompt.
  Pair pair_of_messages(const Row& row, const Json& chosen, const Json& rejected) const {
    Pair out;
    out.messages = {messages_of(chosen, cat(row.source, ": ", chosen_)),
                    messages_of(rejected, cat(row.source, ": ", rejected_))};
    const std::string first = out.messages[0].front().role;
    const size_t same = chosen.is_array() && rejected.is_array() ? common_beginning(chosen, rejected) : 0;
    if (same > 0 && first != "assistant" && first != "tool") {
      const auto end = out.messages[0].begin() + static_cast<std::ptrdiff_t>(same);
      out.question.messages.assign(out.messages[0].begin(), end);
      for (auto& side : out.messages) side.erase(side.begin(), side.begin() + static_cast<std::ptrdiff_t>(same));
      out.question.tools = read_objects(row.fields, "tools", row.source);
      out.question.documents = read_objects(row.fields, "documents", row.source);
      return out;
    }
    check(is_conversation(row, messages_) || is_prompt(row), row.source, ": ", chosen_, " and ", rejected_,
          " begin with different messages and the row has neither ", prompt_, " nor ", messages_,
          ", so there is no question that both answer");
    out.question = question_of(row);
    return out;
  }

  void check_answer(const Row& row, const Pair& pair, size_t side) const {
    const std::string& column = side == 0 ? chosen_ : rejected_;
    if (pair.chat()) {
      const ChatMessage& last = pair.messages[side].back();
      check(last.role == "assistant", row.source, ": ", column, ": the last message is of the ", last.role,
            "; expected an answer of the assistant");
      const bool calls = last.value.dict().find(jinja::Value("tool_calls")) != nullptr;
      check(!last.text.empty() || calls, row.source, ": ", column, ": an empty answer");
    } else {
      check(!pair.texts[side].empty(), row.source, ": ", column, ": an empty answer");
    }
  }

  /// What generation starts from, of a row with or without answers.
  void encode_prompt(const Row& row, Example& out) const {
    if (row.fields.contains("input_ids")) {
      RowIds ids = read_model_ids(row, false);
      fit_into(prompt_only(std::move(ids.input_ids)), 0, out);
      return;
    }
    const bool asks = is_prompt(row) || is_conversation(row, messages_);
    if (asks || !row.fields.contains(rejected_)) return encode_question(row, out);
    tokenizer(row);
    Pair pair = read_pair(row);
    if (pair.chat()) encode_question(row, std::move(pair.question), out);
    else encode_question(row, pair.prompt, out);
  }

  /// {"input_ids": the prompt's, "chosen": ids, "rejected": ids}
  void encode_ids(const Row& row, std::array<Example, 2>& sides) const {
    const std::vector<int64_t> prompt = read_model_ids(row, false).input_ids;
    std::array<Sequence, 2> sequences{prompt_only(prompt), prompt_only(prompt)};
    for (const size_t side : {0, 1}) {
      const std::vector<int64_t> answer = whole_numbers(row, side == 0 ? chosen_ : rejected_);
      for (auto* list : {&sequences[side].ids, &sequences[side].labels})
        list->insert(list->end(), answer.begin(), answer.end());
    }
    fit_both(std::move(sequences), 0, sides);
  }

  void encode_texts(const Row& row, std::array<Example, 2>& sides) const {
    tokenizer(row);
    const Pair pair = read_pair(row);
    if (!pair.chat()) {
      fit_both({answered(row, pair.prompt, pair.texts[0]), answered(row, pair.prompt, pair.texts[1])},
               text_prefix_.size(), sides);
      return;
    }
    const ChatTemplate& chosen = template_for(row, pair.question);
    in_row(row, [&] {
      const auto [first, second] = tokens_of_pair(pair.question, pair.messages[0], pair.messages[1], chosen,
                                                  tokenizer(row), static_cast<size_t>(max_length_));
      Example prompt;
      fit_into(prompt_only(first.prompt), first.fixed, prompt);
      fit_both({learnt_of(first), learnt_of(second)}, first.fixed, sides);
      for (Example& side : sides) {
        side.prompt_ids = prompt.prompt_ids;
        side.truncated = side.truncated || first.shortened;
      }
    });
  }

  /// Both lose as much of the prompt's beginning as the longer answer asks for.
  void fit_both(std::array<Sequence, 2> sequences, size_t prefix, std::array<Example, 2>& sides) const {
    size_t longest = 0;
    for (const Sequence& one : sequences) longest = std::max(longest, one.ids.size() - one.answer);
    for (const size_t side : {0, 1}) fit_into(std::move(sequences[side]), prefix, sides[side], longest);
  }

  /// One example of both; without any label where one of them has no token to learn.
  static void put_together(const std::array<Example, 2>& sides, Example& out) {
    const auto learns = [](const Example& side) {
      return std::any_of(side.label_ids.begin() + 1, side.label_ids.end(), [](int64_t id) { return id != kIgnored; });
    };
    const bool both = std::all_of(sides.begin(), sides.end(), learns);
    check(!both || sides[0].input_ids != sides[1].input_ids, out.source,
          ": both answers are the same tokens, as far as data.max_length lets them through; leave the row out");
    for (const Example& side : sides) {
      out.input_ids.insert(out.input_ids.end(), side.input_ids.begin(), side.input_ids.end());
      out.label_ids.insert(out.label_ids.end(), side.label_ids.begin(), side.label_ids.end());
      out.truncated = out.truncated || side.truncated;
    }
    if (!both) std::fill(out.label_ids.begin(), out.label_ids.end(), kIgnored);
    out.second = sides[0].input_ids.size();
    out.prompt_ids = sides[0].prompt_ids;
  }

  static void split(const Example& pair, std::vector<Example>& out) {
    const auto middle = static_cast<std::ptrdiff_t>(pair.second);
    for (const bool second : {false, true}) {
      const auto part = [&](const std::vector<int64_t>& ids) {
        return second ? std::vector<int64_t>(ids.begin() + middle, ids.end())
                      : std::vector<int64_t>(ids.begin(), ids.begin() + middle);
      };
      out.emplace_back();
      out.back().input_ids = part(pair.input_ids);
      out.back().label_ids = part(pair.label_ids);
    }
  }

  /// The chosen sequences' prompts are learnt too.
  static void label_prompts(Batch& batch) {
    const torch::Tensor next = batch.input_ids.slice(1, 1), real = batch.attention_mask.slice(1, 1) != 0;
    const torch::Tensor labels = torch::where(real, next, torch::full_like(next, kIgnored));
    const auto chosen = [](const torch::Tensor& rows) { return rows.slice(0, 0, std::nullopt, 2); };
    chosen(batch.labels.slice(1, 0, batch.labels.size(1) - 1)).copy_(chosen(labels));
  }

  /// [B, 2]; undefined where examples have none yet.
  static torch::Tensor reference_of(std::span<const Example* const> examples) {
    std::vector<double> values;
    for (const Example* example : examples)
      values.insert(values.end(), example->reference.begin(), example->reference.end());
    if (values.size() != 2 * examples.size()) return {};
    return torch::tensor(values, torch::kFloat64).view({-1, 2});
  }
  static void add_reference(std::span<const Example* const> examples, Batch& batch) {
    if (const torch::Tensor reference = reference_of(examples); reference.defined())
      batch.beside["reference"] = reference;
  }

  PairLosses pair_losses(const AnswerScores& found, const torch::Tensor& reference) const {
    if (loss_ == "orpo") return odds_ratio_losses(found.sums / found.counts, beta_);
    check(reference.defined(), "the loss dpo needs the log-probabilities of the model as it was before training");
    return dpo_losses(found.sums, reference, beta_);
  }

  torch::Tensor loss_from(const torch::Tensor& losses, const Batch& batch) const {
    const AnswerScores found = answer_scores(losses, batch.labels, batch.beside.at("answers"));
    const auto reference = batch.beside.find("reference");
    torch::Tensor sum =
        pair_losses(found, reference == batch.beside.end() ? torch::Tensor() : reference->second).losses.sum();
    if (loss_ == "orpo") {
      const double balance = batch.balance > 0 ? batch.balance : loss_count(batch) / second_count(batch);
      sum = sum + balance * found.text_losses.sum();
    }
    return sum.to(torch::kFloat32);
  }

  /// Of all examples in their order, on the CPU; the model in evaluation, without gradients.
  AnswerScores scores_of(LanguageModel& model, std::span<const Example> examples,
                         const EvaluationOptions& options) const {
    const torch::NoGradGuard no_grad;
    const Autocast autocast(options.device, options.bf16);
    const bool was_training = model.is_training();
    model.eval();
    std::vector<size_t> lengths;
    for (const Example& example : examples) lengths.push_back(example.input_ids.size());
    const torch::Tensor all = torch::zeros({static_cast<int64_t>(examples.size()), 6}, torch::kFloat64);
    const auto batches = evaluation_batches(lengths, options);
    for (size_t b = 0; b < batches.size(); ++b) {
      if (!is_mine(options.group, b)) continue;
      std::vector<const Example*> rows;
      for (const size_t i : batches[b]) rows.push_back(&examples[i]);
      const Batch batch = collate(rows).to(options.device);
      const AnswerScores here = answer_scores(token_losses_of(model, batch), batch.labels, batch.beside.at("answers"));
      const torch::Tensor part =
          torch::cat({here.sums, here.counts, torch::stack({here.text_losses, here.text_counts}, 1)}, 1);
      const std::vector<int64_t> places(batches[b].begin(), batches[b].end());
      all.index_copy_(0, torch::tensor(places, torch::kInt64), part.to(torch::kCPU));
    }
    model.train(was_training);
    if (options.group) options.group->sum(all);  // zeros for the rows of others
    return {all.slice(1, 0, 2), all.slice(1, 2, 4), all.select(1, 4), all.select(1, 5)};
  }

  std::string chosen_ = "chosen", rejected_ = "rejected", loss_ = "dpo";
  double beta_ = 0.1;
};

}  // namespace

std::unique_ptr<Task> make_preference(const Config& data) { return std::make_unique<Preference>(data); }

}  // namespace deeplora
