// Keys that the methods with one LoRA pair share, and the pair that PEFT starts from.
#pragma once

#include <string>
#include <vector>

#include "adapters/site_ranks.h"
#include "factorization/factor_chain.h"
#include "lm/adapter.h"

namespace deeplora {

/// A number for the weights whose path, with or without ".weight", matches a glob.
struct SiteValue {
  std::string pattern;
  double value = 0;
};

/// Ranks and alphas that some weights have for themselves; of several patterns that match a path the first counts.
struct SiteValues {
  std::vector<SiteValue> ranks, alphas;
};
/// Reads `ranks` and `alphas`, lists of PATTERN=NUMBER.
SiteValues read_site_values(const Config& config);

/// How alpha scales the update.
enum class Scaling { none /* 1 */, by_rank /* alpha / r */, by_root_of_rank /* alpha / sqrt r */ };

/// What the configuration says.
struct PairOptions {
  int64_t rank = 8;
  double alpha = 16;
  double dropout = 0;
  Scaling scaling = Scaling::none;
  SiteRanks ranks{"", 8};
  SiteValues own;

  /// The same with the rank and alpha that the configuration gives one weight.
  PairOptions at(const AdapterContext& site) const;
  /// What multiplies B A of a site that has rank r.
  double scale(int64_t r) const;
};

/// Reads rank and dropout; updates are not scaled.
PairOptions read_rank_and_dropout(const Config& config);
/// Reads rank, dropout and alpha, and those of single weights.
PairOptions read_pair_options(const Config& config, Scaling scaling = Scaling::by_rank);
/// Reads an alpha that may be absent: by rank, or not scaled.
void read_optional_alpha(const Config& config, PairOptions& options, std::string_view doc);

/// Leading k pairs of the loss's gradient at the site. Throws Error where it is zero: `method` has no direction to
/// start in there.
SingularPairs gradient_to_start_from(const AdapterContext& site, int64_t k, std::string_view method);

/// B A as PEFT starts it: A Kaiming-uniform and B = 0; of an embedding A N(0, 1) and B, the side read by ids, 0. Throws
/// Error when the rank is above the smaller side of every site.
FactorChain peft_pair(const PairOptions& options, const AdapterContext& site);

}  // namespace deeplora
