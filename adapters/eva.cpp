// EVA (Paischer et al. 2024, arXiv 2410.07170): LoRA whose A starts at the directions in which a layer's inputs vary
// most.
#include <torch/torch.h>

#include "adapters/chain_adapter.h"
#include "adapters/pair_options.h"
#include "adapters/registration.h"

namespace deeplora {
namespace {

/// A's rows are the leading principal directions of the layer's inputs, B is zero, as in PEFT without redistribution of
/// ranks (rho = 1). Weights that are not read by a linear layer start as LoRA's, as in PEFT; so does any weight where
/// there are no inputs: its values are then read from a file.
std::shared_ptr<Adapter> build(const PairOptions& options, const AdapterContext& site) {
  FactorChain pair = peft_pair(options, site);
  if (site.leading_inputs && site.kind == SiteKind::linear) {
    const SingularPairs found = site.leading_inputs(pair->factors().front().value.size(0));
    torch::NoGradGuard no_grad;
    pair->factors().front().value.copy_(found.v.t());
  }
  return std::make_shared<ChainAdapter>(std::move(pair), options.dropout);
}

AdapterFactory configure_eva(const Config& config) {
  const PairOptions options = read_pair_options(config);
  return [options](const AdapterContext& site) { return build(options.at(site), site); };
}

}  // namespace

AdapterMethod eva_method() {
  AdapterMethod method;
  method.configure = configure_eva;
  method.summary = "EVA: LoRA that starts at the directions in which a layer's inputs vary most (Paischer et al. 2024)";
  method.default_lr = 7e-4;
  return method;
}

}  // namespace deeplora
