// Keys that the methods with one LoRA pair share, and the pair that PEFT starts from.
#pragma once

#include <string>
#include <vector>

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
enum class Scaling { by_rank /* alpha / r */, by_root_of_rank /* alpha / sqrt r */ };

struct PairOptions {
  int64_t rank = 8;
  double alpha = 16;
  double dropout = 0;
  double scale = 2;   ///< what multiplies B A
  std::string where;  ///< place of the rank in the configuration, for the factory's messages
  Scaling scaling = Scaling::by_rank;
  SiteValues own;

  /// The same with the rank, alpha and scale of one weight.
  PairOptions at(const AdapterContext& site) const;
};

/// Reads rank and dropout; the scale stays 1.
PairOptions read_rank_and_dropout(const Config& config);
/// Reads rank, dropout and alpha, and those of single weights.
PairOptions read_pair_options(const Config& config, Scaling scaling = Scaling::by_rank);
/// Reads an alpha that may be absent: alpha / rank, or 1.
double read_optional_alpha(const Config& config, int64_t rank, std::string_view doc);

/// B A as PEFT starts it: A Kaiming-uniform and B = 0; of an embedding A N(0, 1) and B, the side read by ids, 0. Throws
/// Error when the rank is above the smaller side.
FactorChain peft_pair(const PairOptions& options, const AdapterContext& site);

}  // namespace deeplora
