// Oracles: exhaustive enumeration of all texts, the softmax's own probabilities, and decoding without a cache. Equality
// with transformers' generate() is tested through the program (tests/python/test_language_models.py).
#include "lm/decoding.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <map>

namespace deeplora {
namespace {

using Ids = std::vector<int64_t>;

constexpr int64_t kVocabulary = 5, kStates = 13, kEnd = 4;

/// A causal model whose next token depends on every token before: a state machine with a table of logits. Cells without
/// attention do not count.
class StateMachine : public LanguageModel {
 public:
  explicit StateMachine(bool cached, bool padding = true) : cached_(cached), padding_(padding) {
    torch::manual_seed(11);
    table_ = torch::randn({kStates, kVocabulary}) * 1.5;
  }
  static int64_t next(int64_t state, int64_t id) { return (state * 3 + id + 1) % kStates; }

  ModelOutput forward(const Batch& batch) override {
    ++passes;
    const bool decoder = batch.decoder_input_ids.defined();
    const torch::Tensor ids = decoder ? batch.decoder_input_ids : batch.input_ids;
    EXPECT_TRUE(padding_ || batch.attention_mask.all().item<bool>());
    torch::Tensor states = torch::zeros_like(ids);
    for (int64_t b = 0; b < ids.size(0); ++b) {
      int64_t state = decoder ? encoded(batch.input_ids[b], batch.attention_mask[b]) : 0;
      for (int64_t t = 0; t < ids.size(1); ++t) {
        if (decoder || batch.attention_mask[b][t].item<int64_t>()) state = next(state, ids[b][t].item<int64_t>());
        states[b][t] = state;
      }
    }
    return {.hidden = {},
            .logits = table_.index_select(0, states.flatten()).reshape({ids.size(0), ids.size(1), kVocabulary})};
  }
  static int64_t encoded(const torch::Tensor& ids, const torch::Tensor& mask) {
    int64_t state = 0;
    for (int64_t t = 0; t < ids.size(0); ++t)
      if (mask[t].item<int64_t>()) state = next(state, ids[t].item<int64_t>());
    return state;
  }
  std::unique_ptr<DecodingState> begin_decoding(const Batch& prompt) override;
  std::vector<AdapterSite> sites() override { return {}; }
  std::vector<NamedTensor> base_parameters() override { return {}; }
  std::string family() const override { return "machine"; }
  bool takes_padding() const override { return padding_; }
  const torch::Tensor& table() const { return table_; }

  int passes = 0;

 private:
  bool cached_, padding_;
  torch::Tensor table_;
};

class MachineState : public DecodingState {
 public:
  MachineState(const torch::Tensor& table, Ids states) : table_(table), states_(std::move(states)) {}
  torch::Tensor logits() const override { return table_.index_select(0, torch::tensor(states_, torch::kInt64)); }
  void advance(const torch::Tensor& ids) override {
    ASSERT_EQ(static_cast<size_t>(ids.size(0)), states_.size());
    for (size_t i = 0; i < states_.size(); ++i)
      states_[i] = StateMachine::next(states_[i], ids[static_cast<int64_t>(i)].item<int64_t>());
  }
  void reorder(const torch::Tensor& rows) override {
    Ids kept;
    for (int64_t i = 0; i < rows.size(0); ++i) kept.push_back(states_.at(static_cast<size_t>(rows[i].item<int64_t>())));
    states_ = kept;
  }

 private:
  torch::Tensor table_;
  Ids states_;
};

std::unique_ptr<DecodingState> StateMachine::begin_decoding(const Batch& prompt) {
  if (!cached_) return nullptr;
  Ids states;
  for (int64_t b = 0; b < prompt.size(); ++b) {
    EXPECT_EQ(prompt.decoder_input_ids.defined() || prompt.attention_mask[b][-1].item<int64_t>() == 1, true)
        << "causal prompts are left-padded";
    int64_t state = encoded(prompt.input_ids[b], prompt.attention_mask[b]);
    if (prompt.decoder_input_ids.defined()) state = next(state, prompt.decoder_input_ids[b][0].item<int64_t>());
    states.push_back(state);
  }
  return std::make_unique<MachineState>(table_, states);
}

const std::vector<Prompt> kPrompts{{{1, 2, 3}, 0, 0}, {{2}, 0, 1}, {{0, 0, 1, 3, 2}, 0, 2}, {{3, 1}, 0, 3}};

GenerationOptions options() {
  GenerationOptions out;
  out.max_new_tokens = 6;
  out.eos = {kEnd};
  return out;
}

/// log p of the next token after a prompt and new tokens.
torch::Tensor log_probabilities(StateMachine& model, const Prompt& prompt, const Ids& fresh, bool decoder) {
  int64_t state = 0;
  for (const int64_t id : prompt.ids) state = StateMachine::next(state, id);
  if (decoder) state = StateMachine::next(state, 0);
  for (const int64_t id : fresh) state = StateMachine::next(state, id);
  return torch::log_softmax(model.table()[state], 0);
}

/// The best finished text of at most `left` more tokens by sum of log p / n^penalty, by trying all.
void best_of_all(StateMachine& model, const Prompt& prompt, bool decoder, double penalty, int64_t limit, Ids& fresh,
                 double sum, double& best, Ids& text) {
  const torch::Tensor next = log_probabilities(model, prompt, fresh, decoder);
  const auto length = static_cast<double>(fresh.size() + 1);
  for (int64_t id = 0; id < kVocabulary; ++id) {
    const double total = sum + next[id].item<double>();
    const bool ends = id == kEnd || static_cast<int64_t>(fresh.size()) + 1 == limit;
    if (id != kEnd) fresh.push_back(id);
    if (ends && total / std::pow(length, penalty) > best) {
      best = total / std::pow(length, penalty);
      text = fresh;
    } else if (!ends) {
      best_of_all(model, prompt, decoder, penalty, limit, fresh, total, best, text);
    }
    if (id != kEnd) fresh.pop_back();
  }
}

DecodingSetup setup_for(bool decoder) {
  DecodingSetup out;
  if (decoder) out.decoder_start = 0;
  return out;
}

TEST(DecodingTest, WithoutTemperatureTheMostLikelyTokenIsTakenUntilTheEnd) {
  for (const bool decoder : {false, true}) {
    StateMachine model(false);
    const auto texts = generate(model, kPrompts, options(), setup_for(decoder));
    bool early = false;
    for (size_t i = 0; i < kPrompts.size(); ++i) {
      Ids fresh;
      while (fresh.size() < 6) {
        const int64_t id = log_probabilities(model, kPrompts[i], fresh, decoder).argmax().item<int64_t>();
        if (id == kEnd) break;
        fresh.push_back(id);
      }
      EXPECT_EQ(texts[i], fresh) << i;
      early |= fresh.size() < 6;
    }
    EXPECT_TRUE(early) << "no row ended with the end token: the test says nothing of it";
  }
}

TEST(DecodingTest, BeamSearchWithRoomForAllTextsFindsTheBest) {
  for (const bool decoder : {false, true})
    for (const double penalty : {0.0, 1.0}) {
      StateMachine model(false);
      GenerationOptions o = options();
      o.max_new_tokens = 4;
      o.beams = 700;  // 5^4 texts
      o.length_penalty = penalty;
      const auto texts = generate(model, kPrompts, o, setup_for(decoder));
      for (size_t i = 0; i < kPrompts.size(); ++i) {
        double best = -1e30;
        Ids fresh, text;
        best_of_all(model, kPrompts[i], decoder, penalty, 4, fresh, 0, best, text);
        EXPECT_EQ(texts[i], text) << "prompt " << i << ", length penalty " << penalty;
      }
    }
}

TEST(DecodingTest, ACacheAndABatchChangeNothing) {
  for (const bool decoder : {false, true})
    for (const int64_t beams : {1, 3})
      for (const double temperature : {0.0, 1.0}) {
        if (beams > 1 && temperature > 0) continue;
        GenerationOptions o = options();
        o.beams = beams;
        o.temperature = temperature;
        o.repetition_penalty = 1.3;
        StateMachine plain(false), cached(true), without_mask(false, false);
        const auto texts = generate(plain, kPrompts, o, setup_for(decoder));
        EXPECT_EQ(generate(cached, kPrompts, o, setup_for(decoder)), texts);
        EXPECT_EQ(cached.passes, 0);
        EXPECT_EQ(generate(without_mask, kPrompts, o, setup_for(decoder)), texts);
        for (size_t i = 0; i < kPrompts.size(); ++i)
          EXPECT_EQ(generate(plain, std::span(kPrompts).subspan(i, 1), o, setup_for(decoder)).front(), texts[i]);
      }
}

TEST(DecodingTest, SamplesFollowTheProbabilities) {
  StateMachine model(true);
  GenerationOptions o = options();
  o.max_new_tokens = 1;
  o.temperature = 0.7;
  o.eos.clear();
  std::vector<Prompt> prompts;
  for (uint64_t i = 0; i < 4000; ++i) prompts.push_back({{1, 2}, 0, i});
  const torch::Tensor p = torch::softmax(log_probabilities(model, prompts[0], {}, false) / o.temperature, 0);
  const auto share = [&](int64_t top_k, double top_p) {
    o.top_k = top_k;
    o.top_p = top_p;
    std::map<int64_t, double> counts;
    for (const auto& text : generate(model, prompts, o, {})) counts[text.at(0)] += 1.0 / 4000;
    return counts;
  };
  auto counts = share(0, 1);
  for (int64_t id = 0; id < kVocabulary; ++id)
    EXPECT_NEAR(counts[id], p[id].item<double>(), 0.03) << id;  // four standard deviations
  const auto [sorted, ids] = p.sort(0, true);
  counts = share(2, 1);
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_NEAR(counts[ids[0].item<int64_t>()], sorted[0].item<double>() / (sorted[0] + sorted[1]).item<double>(), 0.03);
  counts = share(0, (sorted[0] + sorted[1] / 2).item<double>());  // reached within the second token
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_EQ(share(0, 1e-9).size(), 1u);
}

TEST(DecodingTest, TheSeedDecidesASample) {
  StateMachine model(true);
  GenerationOptions o = options();
  o.temperature = 2;
  o.max_new_tokens = 20;
  o.eos.clear();
  const auto first = generate(model, kPrompts, o, {});
  EXPECT_EQ(generate(model, kPrompts, o, {}), first);
  o.seed = 2;
  EXPECT_NE(generate(model, kPrompts, o, {}), first);
}

TEST(DecodingTest, RowsStopWhereTheyAreToldTo) {
  StateMachine model(true);
  GenerationOptions o = options();
  o.eos.clear();
  o.max_new_tokens = 9;
  DecodingSetup setup;
  std::map<size_t, size_t> seen;
  setup.on_token = [&](size_t row, std::span<const int64_t> ids) { EXPECT_EQ(ids.size(), ++seen[row]); };
  setup.complete = [](std::span<const int64_t> ids) { return ids.size() >= 3; };
  std::vector<Prompt> prompts = kPrompts;
  prompts[1].limit = 2;
  const auto texts = generate(model, prompts, o, setup);
  EXPECT_EQ(texts[0].size(), 3u);
  EXPECT_EQ(texts[1].size(), 2u);
  EXPECT_EQ(seen, (std::map<size_t, size_t>{{0, 3}, {1, 2}, {2, 3}, {3, 3}}));
  o.beams = 2;
  setup.on_token = nullptr;
  for (const auto& text : generate(model, prompts, o, setup)) EXPECT_LE(text.size(), 3u);
}

TEST(DecodingTest, ForcedTokensStandFirstAndLast) {
  StateMachine model(true);
  GenerationOptions o = options();
  o.forced_first = 3;
  o.forced_last = kEnd;
  o.max_new_tokens = 4;
  for (const int64_t beams : {1, 3}) {
    o.beams = beams;
    for (const auto& text : generate(model, kPrompts, o, {})) {
      EXPECT_EQ(text.at(0), 3);
      EXPECT_LE(text.size(), 3u);
    }
  }
}

TEST(DecodingTest, TheModelKeepsItsModeAndGetsNoGradient) {
  StateMachine model(false);
  model.train();
  generate(model, kPrompts, options(), {});
  EXPECT_TRUE(model.is_training());
  EXPECT_TRUE(generate(model, {}, options(), {}).empty());
}

}  // namespace
}  // namespace deeplora
