// Beam search, and what it shares with the other ways of choosing tokens.
#pragma once

#include <span>
#include <vector>

#include "lm/decoding.h"

namespace deeplora {

/// Best hypothesis of every prompt, as transformers' generate(num_beams=o.beams) finds it (its vectorised search, 4.50
/// and later).
std::vector<std::vector<int64_t>> beam_search(LanguageModel& model, std::span<const Prompt> prompts,
                                              const GenerationOptions& o, const DecodingSetup& setup);

/// What a row's next token depends on beside the logits.
struct TokenHistory {
  std::span<const int64_t> seen;  ///< all its tokens
  int64_t fresh;                  ///< how many of them are new
  int64_t limit;                  ///< most new tokens
};

/// Repetition penalty and forced tokens on scores [B, V] (float32 on the CPU, logits or log-probabilities).
torch::Tensor process_scores(torch::Tensor scores, const std::vector<TokenHistory>& rows, const GenerationOptions& o);

/// The smaller of the prompt's own limit and max_new_tokens.
int64_t new_token_limit(const Prompt& prompt, const GenerationOptions& o);

}  // namespace deeplora
