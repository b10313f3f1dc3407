// Keys that the methods with one LoRA pair share, and the pair that PEFT starts from.
#pragma once

#include <string>

#include "adapters/site_ranks.h"
#include "factorization/factor_chain.h"
#include "lm/adapter.h"

namespace deeplora {

/// How alpha scales the update.
enum class Scaling { none /* 1 */, by_rank /* alpha / r */, by_root_of_rank /* alpha / sqrt r */ };

/// What the configuration says.
struct PairOptions {
  int64_t rank = 8;
  double alpha = 16;
  double dropout = 0;
  Scaling scaling = Scaling::none;
  SiteRanks ranks{"", 8};

  /// What multiplies B A of a site that has rank r.
  double scale(int64_t r) const;
};

/// Reads rank and dropout; updates are not scaled.
PairOptions read_rank_and_dropout(const Config& config);
/// Reads rank, dropout and alpha.
PairOptions read_pair_options(const Config& config, Scaling scaling = Scaling::by_rank);
/// Reads an alpha that may be absent: by rank, or not scaled.
void read_optional_alpha(const Config& config, PairOptions& options, std::string_view doc);

/// B A as PEFT starts it: A Kaiming-uniform and B = 0; of an embedding A N(0, 1) and B, the side read by ids, 0. Throws
/// Error when the rank is above the smaller side of every site.
FactorChain peft_pair(const PairOptions& options, const AdapterContext& site);

}  // namespace deeplora
