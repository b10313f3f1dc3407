// Deep LoRA (Yaras et al. 2024): an update of depth L >= 2 that starts small and orthogonal; with compress,
// its spectral form U (eps I)^L V^T, whose outer factors come from the gradient of the frozen weight.
#include <torch/torch.h>

#include <cmath>

#include "adapters/chain_adapter.h"
#include "adapters/registration.h"
#include "adapters/site_ranks.h"
#include "factorization/initialization.h"
#include "factorization/spectral.h"

namespace deeplora {
namespace {

struct DeepLoraOptions {
  int64_t rank = 8;
  int64_t depth = 3;
  double init_scale = 1e-3;
  double dropout = 0;
  std::optional<double> alpha;
  bool compress = false;
  double outer_lr_ratio = 1e-2;
};

// The leading k pairs of the gradient, or random directions where there is none: the values are then read
// from a file.
SingularPairs starting_pairs(const AdapterContext& site, int64_t k) {
  if (!site.leading_gradient) {
    return {random_semi_orthogonal(site.out(), k, site.generator, site.factor_options),
            {},
            random_semi_orthogonal(site.in(), k, site.generator, site.factor_options)};
  }
  SingularPairs pairs = site.leading_gradient(k);
  pairs.u = pairs.u.to(site.factor_options);
  pairs.v = pairs.v.to(site.factor_options);
  return pairs;
}

FactorChain build_chain(const DeepLoraOptions& options, int64_t rank, const AdapterContext& site) {
  const double scale = options.alpha ? *options.alpha / static_cast<double>(rank) : 1;
  if (!options.compress)
    return orthogonal_chain({site.out(), site.in(), rank, options.depth}, options.init_scale, site.generator,
                            site.factor_options, scale);
  const SingularPairs pairs = starting_pairs(site, rank);
  return compressed_chain(pairs.u, pairs.v, options.depth, options.init_scale, options.outer_lr_ratio, site.generator,
                          scale);
}

void read_compression(const Config& config, DeepLoraOptions& options) {
  config.read("compress", options.compress,
              "spectral form U (eps I)^L V^T: outer factors from the gradient's leading `rank` singular "
              "pairs, inner width 2 x rank");
  if (!options.compress && !config.has("outer_lr_ratio")) return;
  config.read("outer_lr_ratio", options.outer_lr_ratio,
              "with compress: learning rate of the outer factors U and V over that of the inner ones; 0 "
              "freezes them");
  if (!options.compress) config.mistake("outer_lr_ratio", "is used with compress: true only");
  config.require(std::isfinite(options.outer_lr_ratio) && options.outer_lr_ratio >= 0, "outer_lr_ratio",
                 "a number of at least 0");
}

AdapterFactory configure_deep_lora(const Config& config) {
  DeepLoraOptions options;
  config.read("rank", options.rank,
              "inner width of the update (twice that with compress: true); a weight whose smaller side is less gets "
              "what it has room for");
  config.require(options.rank >= 1, "rank", "a rank of at least 1");
  config.read("depth", options.depth, "number of factors; with compress: true, of the inner ones");
  config.require(options.depth >= 2, "depth", "a depth of at least 2");
  config.read("init_scale", options.init_scale, "eps: every factor starts as eps x a random orthogonal matrix");
  config.require(std::isfinite(options.init_scale) && options.init_scale > 0, "init_scale", "a number above 0");
  config.read("dropout", options.dropout,
              "probability of dropping an input of the update in training; embeddings take none");
  config.require(options.dropout >= 0 && options.dropout < 1, "dropout", "a probability in [0, 1)");
  std::optional<double>& alpha = options.alpha;
  config.read("alpha", alpha, "the update is multiplied by alpha / rank; absent, it is not scaled");
  config.require(!alpha || (std::isfinite(*alpha) && *alpha != 0), "alpha", "a number other than zero");
  read_compression(config, options);
  const SiteRanks ranks(config.where("rank"), options.rank, options.compress ? 2 : 1);
  return [options, ranks](const AdapterContext& site) -> std::shared_ptr<Adapter> {
    return std::make_shared<ChainAdapter>(build_chain(options, ranks.of(site), site), options.dropout);
  };
}

}  // namespace

AdapterMethod deep_lora_method() {
  AdapterMethod method;
  method.configure = configure_deep_lora;
  method.summary =
      "Deep LoRA: three or more small orthogonal factors, optionally compressed to the gradient's subspace "
      "(Yaras et al. 2024)";
  method.default_lr = 6e-3;
  return method;
}

}  // namespace deeplora
