#include "lm/decoding.h"

#include <torch/torch.h>

#include <algorithm>
#include <limits>
#include <map>

#include "core/error.h"
#include "core/random.h"
#include "lm/beam_search.h"

namespace deeplora {
namespace {

using Ids = std::vector<int64_t>;

torch::Tensor index_tensor(const std::vector<size_t>& rows) {
  return torch::tensor(Ids(rows.begin(), rows.end()), torch::kInt64);
}

/// Ids [B, T] and mask [B, T], padded on one side.
Batch padded(const std::vector<const Ids*>& rows, int64_t pad, bool left) {
  size_t width = 1;
  for (const Ids* row : rows) width = std::max(width, row->size());
  const std::vector<int64_t> shape{static_cast<int64_t>(rows.size()), static_cast<int64_t>(width)};
  Batch batch;
  batch.input_ids = torch::full(shape, pad, torch::kInt64);
  batch.attention_mask = torch::zeros(shape, torch::kInt64);
  auto ids = batch.input_ids.accessor<int64_t, 2>();
  auto mask = batch.attention_mask.accessor<int64_t, 2>();
  for (size_t i = 0; i < rows.size(); ++i) {
    const size_t shift = left ? width - rows[i]->size() : 0;
    for (size_t t = 0; t < rows[i]->size(); ++t) {
      ids[static_cast<int64_t>(i)][static_cast<int64_t>(shift + t)] = (*rows[i])[t];
      mask[static_cast<int64_t>(i)][static_cast<int64_t>(shift + t)] = 1;
    }
  }
  return batch;
}

/// Runs forward() on everything so far for every token: what works for any model.
class PrefixState : public DecodingState {
 public:
  PrefixState(LanguageModel& model, std::span<const Prompt> prompts, const DecodingSetup& setup)
      : model_(model), setup_(setup) {
    for (const auto& prompt : prompts) {
      rows_.push_back(setup.decoder_start ? Ids{*setup.decoder_start} : prompt.ids);
      if (setup.decoder_start) sources_.push_back(prompt.ids);
    }
    run();
  }

  torch::Tensor logits() const override { return logits_; }

  void advance(const torch::Tensor& ids) override {
    const torch::Tensor chosen = ids.to(torch::kCPU, torch::kInt64).contiguous();
    for (size_t i = 0; i < rows_.size(); ++i) rows_[i].push_back(chosen.const_data_ptr<int64_t>()[i]);
    run();
  }

  void reorder(const torch::Tensor& rows) override {
    const torch::Tensor chosen = rows.to(torch::kCPU, torch::kInt64).contiguous();
    std::vector<Ids> kept, sources;
    for (int64_t i = 0; i < chosen.numel(); ++i) {
      const auto row = static_cast<size_t>(chosen.const_data_ptr<int64_t>()[i]);
      kept.push_back(rows_[row]);
      if (!sources_.empty()) sources.push_back(sources_[row]);
    }
    rows_ = std::move(kept);
    sources_ = std::move(sources);
    logits_ = logits_.index_select(0, chosen.to(logits_.device()));
  }

 private:
  /// Rows of one forward pass: all, or for models that would read padding as text, those of one length.
  std::vector<std::vector<size_t>> groups() const {
    std::map<std::pair<size_t, size_t>, std::vector<size_t>> by_length;
    for (size_t i = 0; i < rows_.size(); ++i) {
      const size_t source = sources_.empty() ? 0 : sources_[i].size();
      by_length[model_.takes_padding() ? std::pair<size_t, size_t>{} : std::pair{source, rows_[i].size()}].push_back(i);
    }
    std::vector<std::vector<size_t>> out;
    for (auto& [unused, rows] : by_length) out.push_back(std::move(rows));
    return out;
  }

  void run() {
    std::vector<torch::Tensor> parts;
    std::vector<size_t> order;
    for (const auto& group : groups()) {
      std::vector<const Ids*> texts, sources;
      Ids last;
      for (const size_t i : group) {
        texts.push_back(&rows_[i]);
        if (!sources_.empty()) sources.push_back(&sources_[i]);
        last.push_back(static_cast<int64_t>(rows_[i].size()) - 1);
      }
      Batch batch = padded(sources.empty() ? texts : sources, setup_.pad_id, false);
      if (!sources.empty()) batch.decoder_input_ids = padded(texts, setup_.pad_id, false).input_ids;
      const torch::Tensor out = model_.forward(batch.to(setup_.device)).logits;
      check(out.defined() && out.dim() == 3, "generation needs logits of every token [B, T, V]");
      const torch::Tensor row = torch::arange(out.size(0), out.options().dtype(torch::kInt64));
      parts.push_back(out.index({row, torch::tensor(last, torch::kInt64).to(out.device())}));
      order.insert(order.end(), group.begin(), group.end());
    }
    const torch::Tensor stacked = torch::cat(parts);
    logits_ = torch::empty_like(stacked).index_copy_(0, index_tensor(order).to(stacked.device()), stacked);
  }

  LanguageModel& model_;
  const DecodingSetup& setup_;
  std::vector<Ids> rows_, sources_;
  torch::Tensor logits_;
};

/// One row's next token from its logits [V], by temperature, top-k and top-p (Holtzman et al. 2020).
int64_t draw(const torch::Tensor& logits, const GenerationOptions& o, at::Generator& generator) {
  const int64_t vocabulary = logits.size(0);
  const int64_t most = o.top_k > 0 ? std::min(o.top_k, vocabulary) : vocabulary;
  auto [values, ids] = torch::topk(logits.to(torch::kFloat64) / o.temperature, most);
  const torch::Tensor probabilities = torch::softmax(values, 0).contiguous();
  const double* p = probabilities.const_data_ptr<double>();
  int64_t kept = 0;
  double mass = 0;
  while (kept < most && (kept == 0 || mass < o.top_p)) mass += p[kept++];
  double left = torch::rand({1}, generator, torch::kFloat64).item<double>() * mass;
  int64_t chosen = 0;
  while (chosen + 1 < kept && (left -= p[chosen]) >= 0) ++chosen;
  return ids[chosen].item<int64_t>();
}

struct LiveRow {
  size_t index;  ///< of its prompt
  Ids seen;      ///< what the repetition penalty knows: prompt (or the decoder's start) and new tokens
  size_t first_new;
  int64_t limit;
  at::Generator generator;

  std::span<const int64_t> fresh() const { return std::span(seen).subspan(first_new); }
};

Ids choose(torch::Tensor logits, std::vector<LiveRow>& rows, const GenerationOptions& o) {
  std::vector<TokenHistory> history;
  for (const auto& row : rows) history.push_back({row.seen, static_cast<int64_t>(row.fresh().size()), row.limit});
  logits = process_scores(logits.to(torch::kCPU, torch::kFloat32), history, o);
  Ids out;
  if (o.temperature > 0) {
    for (size_t i = 0; i < rows.size(); ++i) out.push_back(draw(logits[static_cast<int64_t>(i)], o, rows[i].generator));
    return out;
  }
  const torch::Tensor best = logits.argmax(1).contiguous();
  out.assign(best.const_data_ptr<int64_t>(), best.const_data_ptr<int64_t>() + best.numel());
  return out;
}

std::vector<LiveRow> live_rows(std::span<const Prompt> prompts, const GenerationOptions& o,
                               const DecodingSetup& setup) {
  std::vector<LiveRow> rows;
  for (size_t i = 0; i < prompts.size(); ++i) {
    Ids seen = setup.decoder_start ? Ids{*setup.decoder_start} : prompts[i].ids;
    const size_t first_new = seen.size();
    rows.push_back({i, std::move(seen), first_new, new_token_limit(prompts[i], o),
                    make_generator(static_cast<uint64_t>(o.seed), cat("generate/", prompts[i].stream))});
  }
  return rows;
}

std::vector<Ids> one_by_one(LanguageModel& model, std::span<const Prompt> prompts, const GenerationOptions& o,
                            const DecodingSetup& setup) {
  std::vector<Ids> out(prompts.size());
  std::vector<LiveRow> rows = live_rows(prompts, o, setup);
  const auto state = begin_decoding(model, prompts, setup);
  while (!rows.empty()) {
    const Ids chosen = choose(state->logits(), rows, o);
    std::vector<size_t> go_on;
    Ids next;
    for (size_t i = 0; i < rows.size(); ++i) {
      LiveRow& row = rows[i];
      const bool ended = std::find(o.eos.begin(), o.eos.end(), chosen[i]) != o.eos.end();
      if (!ended) row.seen.push_back(chosen[i]);
      if (!ended && setup.on_token) setup.on_token(row.index, row.fresh());
      if (!ended && static_cast<int64_t>(row.fresh().size()) < row.limit &&
          !(setup.complete && setup.complete(row.fresh()))) {
        go_on.push_back(i);
        next.push_back(chosen[i]);
      } else {
        out[row.index].assign(row.fresh().begin(), row.fresh().end());
      }
    }
    if (go_on.empty()) break;
    if (go_on.size() < rows.size()) {
      std::vector<LiveRow> kept;
      for (const size_t i : go_on) kept.push_back(std::move(rows[i]));
      rows = std::move(kept);
      state->reorder(index_tensor(go_on).to(setup.device));
    }
    state->advance(torch::tensor(next, torch::kInt64).to(setup.device));
  }
  return out;
}

}  // namespace

int64_t new_token_limit(const Prompt& prompt, const GenerationOptions& o) {
  return prompt.limit > 0 ? std::min(prompt.limit, o.max_new_tokens) : o.max_new_tokens;
}

torch::Tensor process_scores(torch::Tensor scores, const std::vector<TokenHistory>& rows, const GenerationOptions& o) {
  if (o.repetition_penalty == 1.0 && !o.forced_first && !o.forced_last) return scores;
  scores = scores.clone();  // the state's own
  constexpr double kNever = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < rows.size(); ++i) {
    torch::Tensor row = scores[static_cast<int64_t>(i)];
    if (o.repetition_penalty != 1.0) {
      const torch::Tensor seen = torch::tensor(Ids(rows[i].seen.begin(), rows[i].seen.end()), torch::kInt64);
      const torch::Tensor values = row.index_select(0, seen);
      row.index_copy_(0, seen, torch::where(values < 0, values * o.repetition_penalty, values / o.repetition_penalty));
    }
    const bool first = rows[i].fresh == 0, last = rows[i].fresh + 1 == rows[i].limit;
    const auto forced = first && o.forced_first ? o.forced_first : last && o.forced_last ? o.forced_last : std::nullopt;
    if (!forced) continue;
    row.fill_(kNever);
    row[*forced] = 0;
  }
  return scores;
}

std::unique_ptr<DecodingState> begin_decoding(LanguageModel& model, std::span<const Prompt> prompts,
                                              const DecodingSetup& setup) {
  std::vector<const Ids*> rows;
  for (const auto& prompt : prompts) rows.push_back(&prompt.ids);
  Batch batch = padded(rows, setup.pad_id, /*left=*/!setup.decoder_start);
  if (setup.decoder_start)
    batch.decoder_input_ids = torch::full({batch.size(), 1}, *setup.decoder_start, torch::kInt64);
  if (auto state = model.begin_decoding(batch.to(setup.device))) return state;
  return std::make_unique<PrefixState>(model, prompts, setup);
}

std::vector<Ids> generate(LanguageModel& model, std::span<const Prompt> prompts, const GenerationOptions& options,
                          const DecodingSetup& setup) {
  const torch::NoGradGuard no_grad;
  for (const auto& prompt : prompts) check(!prompt.ids.empty(), "generation needs a prompt of at least one token");
  if (prompts.empty() || options.max_new_tokens < 1) return std::vector<Ids>(prompts.size());
  const bool was_training = model.is_training();
  model.eval();
  auto out =
      options.beams > 1 ? beam_search(model, prompts, options, setup) : one_by_one(model, prompts, options, setup);
  model.train(was_training);
  return out;
}

}  // namespace deeplora
