// PoLAR (Lion, Zhang, Li & He 2025): an update X Theta Y^T whose outer factors keep orthonormal columns.
#include <torch/torch.h>

#include "adapters/chain_adapter.h"
#include "adapters/pair_options.h"
#include "adapters/registration.h"
#include "factorization/initialization.h"

namespace deeplora {
namespace {

/// X [out, r] and Y [in, r] uniformly random on the Stiefel manifold, Theta [r, r] zero.
FactorChain polar_chain(const PairOptions& options, const AdapterContext& site) {
  const int64_t rank = options.ranks.of(site);
  const auto& dtype = site.factor_options;
  const torch::Tensor y = random_semi_orthogonal(rank, site.in(), site.generator, dtype),
                      x = random_semi_orthogonal(site.out(), rank, site.generator, dtype);
  return FactorChain(std::vector<Factor>{{"Y", y, 1, /*orthonormal=*/true},
                                         {"Theta", at::zeros({rank, rank}, dtype)},
                                         {"X", x, 1, /*orthonormal=*/true}},
                     options.scale(rank));
}

AdapterFactory configure_polar(const Config& config) {
  PairOptions options = read_rank_and_dropout(config);
  read_optional_alpha(config, options, "the update is multiplied by alpha / rank; absent, it is not scaled");
  return [options](const AdapterContext& site) -> std::shared_ptr<Adapter> {
    return std::make_shared<ChainAdapter>(polar_chain(options, site), options.dropout);
  };
}

}  // namespace

AdapterMethod polar_method() {
  AdapterMethod method;
  method.configure = configure_polar;
  method.summary = "PoLAR: X Theta Y^T with X and Y kept orthonormal by polar retractions (Lion et al. 2025)";
  method.default_lr = 1.5e-2;
  return method;
}

}  // namespace deeplora
