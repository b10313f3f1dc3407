#include "adapters/pair_options.h"

#include <torch/torch.h>

#include <cmath>

#include "adapters/chain_adapter.h"
#include "factorization/initialization.h"

namespace deeplora {

PairOptions read_rank_and_dropout(const Config& config) {
  PairOptions options;
  options.scale = 1;
  config.read("rank", options.rank,
              "rank r of the update B A; at most the smaller side of every adapted weight");
  config.require(options.rank >= 1, "rank", "a rank of at least 1");
  config.read("dropout", options.dropout,
              "probability of dropping an input of the update in training; embeddings take none");
  config.require(options.dropout >= 0 && options.dropout < 1, "dropout", "a probability in [0, 1)");
  options.where = config.where("rank");
  return options;
}

PairOptions read_pair_options(const Config& config, Scaling scaling) {
  PairOptions options = read_rank_and_dropout(config);
  const bool root = scaling == Scaling::by_root_of_rank;
  config.read("alpha", options.alpha,
              root ? "the update is multiplied by alpha / sqrt(rank)" : "the update is multiplied by alpha / rank");
  config.require(std::isfinite(options.alpha) && options.alpha != 0, "alpha", "a number other than zero");
  const auto rank = static_cast<double>(options.rank);
  options.scale = options.alpha / (root ? std::sqrt(rank) : rank);
  return options;
}

double read_optional_alpha(const Config& config, int64_t rank, std::string_view doc) {
  std::optional<double> alpha;
  config.read("alpha", alpha, doc);
  config.require(!alpha || (std::isfinite(*alpha) && *alpha != 0), "alpha", "a number other than zero");
  return alpha ? *alpha / static_cast<double>(rank) : 1;
}

FactorChain peft_pair(const PairOptions& options, const AdapterContext& site) {
  check_rank(options.where, options.rank, 1, site);
  const ChainShape shape{site.out(), site.in(), options.rank, 2};
  return site.kind == SiteKind::embedding
             ? gaussian_zero_chain(shape, ZeroSide::output, 1, options.scale, site.generator, site.factor_options)
             : kaiming_zero_chain(shape, options.scale, site.generator, site.factor_options);
}

}  // namespace deeplora
