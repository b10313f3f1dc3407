#include "adapters/pair_options.h"

#include <torch/torch.h>

#include <cmath>

#include "factorization/initialization.h"

namespace deeplora {

double PairOptions::scale(int64_t r) const {
  const auto rank = static_cast<double>(r);
  return scaling == Scaling::none ? 1 : alpha / (scaling == Scaling::by_rank ? rank : std::sqrt(rank));
}

PairOptions read_rank_and_dropout(const Config& config) {
  PairOptions options;
  config.read("rank", options.rank, "rank r of the update B A; a weight whose smaller side is less gets that as its rank");
  config.require(options.rank >= 1, "rank", "a rank of at least 1");
  config.read("dropout", options.dropout,
              "probability of dropping an input of the update in training; embeddings take none");
  config.require(options.dropout >= 0 && options.dropout < 1, "dropout", "a probability in [0, 1)");
  options.ranks = SiteRanks(config.where("rank"), options.rank);
  return options;
}

PairOptions read_pair_options(const Config& config, Scaling scaling) {
  PairOptions options = read_rank_and_dropout(config);
  config.read("alpha", options.alpha,
              scaling == Scaling::by_root_of_rank ? "the update is multiplied by alpha / sqrt(rank)" : "the update is multiplied by alpha / rank");
  config.require(std::isfinite(options.alpha) && options.alpha != 0, "alpha", "a number other than zero");
  options.scaling = scaling;
  return options;
}

void read_optional_alpha(const Config& config, PairOptions& options, std::string_view doc) {
  std::optional<double> alpha;
  config.read("alpha", alpha, doc);
  config.require(!alpha || (std::isfinite(*alpha) && *alpha != 0), "alpha", "a number other than zero");
  if (!alpha) return;
  options.alpha = *alpha;
  options.scaling = Scaling::by_rank;
}

FactorChain peft_pair(const PairOptions& options, const AdapterContext& site) {
  const ChainShape shape{site.out(), site.in(), options.ranks.of(site), 2};
  const double scale = options.scale(shape.width);
  return site.kind == SiteKind::embedding ? gaussian_zero_chain(shape, ZeroSide::output, 1, scale, site.generator, site.factor_options)
                                          : kaiming_zero_chain(shape, scale, site.generator, site.factor_options);
}

}  // namespace deeplora
