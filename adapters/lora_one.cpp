// LoRA-One (Zhang, Liu & Chen 2025) without its optional preconditioner: LoRA that starts at one scaled step of
// rank-r full-gradient descent.
#include <torch/torch.h>

#include <cmath>

#include "adapters/chain_adapter.h"
#include "adapters/pair_options.h"
#include "adapters/registration.h"

namespace deeplora {
namespace {

/// With Gamma = U S V^T the gradient: B = -U (S / (gamma s_1))^(1/2), A = (S / (gamma s_1))^(1/2) V^T, as in the
/// authors' code, so that B A = -Gamma_r / (gamma s_1). Zeros where there is no gradient: the values are then read from
/// a file.
FactorChain one_step_pair(const PairOptions& options, double gamma, const AdapterContext& site) {
  const int64_t rank = options.ranks.of(site);
  const auto& dtype = site.factor_options;
  torch::Tensor a = at::zeros({rank, site.in()}, dtype), b = at::zeros({site.out(), rank}, dtype);
  if (site.leading_gradient) {
    const SingularPairs pairs = gradient_to_start_from(site, rank, "lora-one");
    const double largest = pairs.s.max().item<double>();
    const torch::Tensor root = (pairs.s / (gamma * largest)).sqrt();
    a = (pairs.v * root).t().to(dtype);
    b = (-pairs.u * root).to(dtype);
  }
  return FactorChain(std::vector<Factor>{{"A", a}, {"B", b}}, options.scale(rank));
}

AdapterFactory configure_lora_one(const Config& config) {
  const PairOptions options = read_pair_options(config, Scaling::by_root_of_rank);
  double gamma = 128;
  config.read("gamma", gamma,
              "the update starts at -alpha / sqrt(rank) / gamma x the leading part of the gradient over its norm");
  config.require(std::isfinite(gamma) && gamma > 0, "gamma", "a number above 0");
  return [options, gamma](const AdapterContext& site) -> std::shared_ptr<Adapter> {
    return std::make_shared<ChainAdapter>(one_step_pair(options.at(site), gamma, site), options.dropout);
  };
}

}  // namespace

AdapterMethod lora_one_method() {
  AdapterMethod method;
  method.configure = configure_lora_one;
  method.summary =
      "LoRA-One: LoRA that starts at a small step along the leading singular pairs of the gradient (Zhang et al. 2025)";
  method.default_lr = 1e-3;
  return method;
}

}  // namespace deeplora
