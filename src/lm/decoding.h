// Text after a prompt: greedy, sampled and beam search over any language model, with its key/value cache where it has
// one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "lm/language_model.h"

namespace deeplora {

/// How the next token is chosen. The defaults take the most likely token.
struct GenerationOptions {
  int64_t max_new_tokens = 128;
  int64_t beams = 1;            ///< above 1: beam search
  double length_penalty = 1.0;  ///< a hypothesis of n tokens scores log p / n^length_penalty
  bool early_stopping = false;  ///< beam search ends with the first `beams` finished hypotheses
  double temperature = 0;       ///< 0: the most likely token; else logits / temperature are sampled
  int64_t top_k = 0;            ///< sample among the k most likely tokens; 0: all
  double top_p = 1.0;           ///< ... among the fewest most likely tokens that hold this probability
  double repetition_penalty =
      1.0;  ///< positive logits of tokens seen before are divided by it, negative multiplied (Keskar et al. 2019)
  int64_t seed = 1;  ///< of sampling; every row has its own stream, whatever its batch

  std::vector<int64_t> eos;               ///< any of these ends a row
  std::optional<int64_t> forced_first{};  ///< first token of every row (mBART's language)
  std::optional<int64_t> forced_last{};   ///< token at max_new_tokens
};

struct Prompt {
  std::vector<int64_t> ids;  ///< special tokens included, never empty
  int64_t limit =
      0;  ///< at most this many new tokens, also where max_new_tokens is larger (positions run out); 0: no limit
  uint64_t stream = 0;  ///< names the row's random numbers
};

/// What the search needs beside the model.
struct DecodingSetup {
  std::optional<int64_t> decoder_start{};  ///< present: sequence to sequence; prompts are sources
  int64_t pad_id = 0;
  torch::Device device = torch::kCPU;
  /// True when a row whose new tokens are these is complete (stop strings). May be empty.
  std::function<bool(std::span<const int64_t>)> complete{};
  /// Called after each new token of a row (not in beam search) with all its new tokens. May be empty.
  std::function<void(size_t row, std::span<const int64_t>)> on_token{};
};

/// New tokens of every prompt, without the end token. The model is put into eval mode meanwhile. Beam search gives what
/// transformers' generate(num_beams=...) gives.
std::vector<std::vector<int64_t>> generate(LanguageModel& model, std::span<const Prompt> prompts,
                                           const GenerationOptions& options, const DecodingSetup& setup);

/// The model's own incremental state of the prompts, or one that runs forward() on whole prefixes for models without a
/// cache. A prefix state right-pads, which causal attention never sees.
std::unique_ptr<DecodingState> begin_decoding(LanguageModel& model, std::span<const Prompt> prompts,
                                              const DecodingSetup& setup);

}  // namespace deeplora
