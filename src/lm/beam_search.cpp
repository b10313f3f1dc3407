#include "lm/beam_search.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

namespace deeplora {
namespace {

using Ids = std::vector<int64_t>;

struct Hypothesis {
  Ids seen;         ///< prompt (or the decoder's start) and new tokens
  float score = 0;  ///< sum of log-probabilities; divided by the length once finished
};

/// The beams of one prompt.
struct BeamRow {
  size_t first_new = 0;
  int64_t limit = 0;
  std::vector<Hypothesis> running, finished;  ///< best first; finished ones without their end token
  std::vector<size_t> parents;                ///< of the running ones, in the row's previous beams
  bool done = false;

  int64_t fresh() const { return static_cast<int64_t>(running.front().seen.size() - first_new); }
};

float penalised(float score, int64_t length, const GenerationOptions& o) {
  return score / static_cast<float>(std::pow(static_cast<double>(length), o.length_penalty));
}

void add_finished(BeamRow& row, Hypothesis hypothesis, size_t most) {
  const auto place = std::find_if(row.finished.begin(), row.finished.end(),
                                  [&](const Hypothesis& h) { return h.score < hypothesis.score; });
  row.finished.insert(place, std::move(hypothesis));
  if (row.finished.size() > most) row.finished.pop_back();
}

/// One step of one prompt; scores [beams, V] are log-probabilities of the next token.
void step(BeamRow& row, const torch::Tensor& scores, const GenerationOptions& o, const DecodingSetup& setup) {
  const auto beams = static_cast<size_t>(o.beams);
  const int64_t vocabulary = scores.size(1), length = row.fresh() + 1;
  std::vector<float> before;
  for (const auto& beam : row.running) before.push_back(beam.score);
  const torch::Tensor total = (scores + torch::tensor(before).unsqueeze(1)).flatten();
  const auto candidates = std::max<int64_t>(2, 1 + static_cast<int64_t>(o.eos.size())) * o.beams;
  const auto top = torch::topk(total, std::min(candidates, total.size(0)));
  const torch::Tensor values = std::get<0>(top).contiguous(), places = std::get<1>(top).contiguous();
  std::vector<Hypothesis> next;
  std::vector<size_t> parents;
  for (int64_t k = 0; k < values.size(0); ++k) {
    const float score = values.const_data_ptr<float>()[k];
    if (std::isinf(score)) break;  // ruled out by a forced token
    const int64_t place = places.const_data_ptr<int64_t>()[k], token = place % vocabulary;
    const auto parent = static_cast<size_t>(place / vocabulary);
    Hypothesis grown{row.running[parent].seen, score};
    const bool ended = std::find(o.eos.begin(), o.eos.end(), token) != o.eos.end();
    if (!ended) grown.seen.push_back(token);
    const auto fresh = std::span<const int64_t>(grown.seen).subspan(row.first_new);
    if (ended || length >= row.limit || (setup.complete && setup.complete(fresh))) {
      grown.score = penalised(score, length, o);
      if (static_cast<size_t>(k) < beams) add_finished(row, std::move(grown), beams);
    } else if (next.size() < beams) {
      next.push_back(std::move(grown));
      parents.push_back(parent);
    }
  }
  row.running = std::move(next);
  row.parents = std::move(parents);
  const bool full = row.finished.size() == beams;
  // Could the best running beam still beat the worst finished one? transformers' heuristic: as if it ended here.
  row.done =
      row.running.empty() ||
      (full && (o.early_stopping || penalised(row.running.front().score, length, o) <= row.finished.back().score));
}

}  // namespace

std::vector<Ids> beam_search(LanguageModel& model, std::span<const Prompt> prompts, const GenerationOptions& o,
                             const DecodingSetup& setup) {
  std::vector<BeamRow> rows(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    rows[i].running = {{setup.decoder_start ? Ids{*setup.decoder_start} : prompts[i].ids, 0.0F}};
    rows[i].first_new = rows[i].running.front().seen.size();
    rows[i].limit = new_token_limit(prompts[i], o);
  }
  const auto state = begin_decoding(model, prompts, setup);
  for (;;) {
    std::vector<TokenHistory> history;
    for (const auto& row : rows)
      if (!row.done)
        for (const auto& beam : row.running) history.push_back({beam.seen, row.fresh(), row.limit});
    const torch::Tensor scores =
        process_scores(torch::log_softmax(state->logits().to(torch::kCPU, torch::kFloat32), 1), history, o);
    int64_t first = 0;  // row of the state where this prompt's beams begin
    Ids order, next;
    for (auto& row : rows) {
      if (row.done) continue;
      const auto width = static_cast<int64_t>(row.running.size());
      step(row, scores.slice(0, first, first + width), o, setup);
      for (size_t k = 0; !row.done && k < row.running.size(); ++k) {
        order.push_back(first + static_cast<int64_t>(row.parents[k]));
        next.push_back(row.running[k].seen.back());
      }
      first += width;
    }
    if (next.empty()) break;
    state->reorder(torch::tensor(order, torch::kInt64).to(setup.device));
    state->advance(torch::tensor(next, torch::kInt64).to(setup.device));
  }
  std::vector<Ids> out;
  for (const auto& row : rows) {
    const Hypothesis& best = row.finished.front();
    out.emplace_back(best.seen.begin() + static_cast<std::ptrdiff_t>(row.first_new), best.seen.end());
  }
  return out;
}

}  // namespace deeplora
