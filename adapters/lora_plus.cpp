// LoRA+ (Hayou, Ghosh & Yu 2024): LoRA whose B learns faster than A.
#include <torch/torch.h>

#include <cmath>

#include "adapters/chain_adapter.h"
#include "adapters/pair_options.h"
#include "adapters/registration.h"

namespace deeplora {
namespace {

AdapterFactory configure_lora_plus(const Config& config) {
  const PairOptions options = read_pair_options(config);
  double ratio = 16;
  config.read("lr_ratio", ratio, "learning rate of B over that of A (train.lr)");
  config.require(std::isfinite(ratio) && ratio > 0, "lr_ratio", "a number above 0");
  return [options, ratio](const AdapterContext& site) -> std::shared_ptr<Adapter> {
    FactorChain chain = peft_pair(options.at(site), site);
    // The paper's argument is about the width that B's input sums over; a lookup sums over nothing, so both sides of
    // an embedding learn alike.
    if (site.kind != SiteKind::embedding) {
      std::vector<Factor> factors = chain->factors();
      factors.back().lr_scale = ratio;
      chain = FactorChain(std::move(factors), chain->scale());
    }
    return std::make_shared<ChainAdapter>(std::move(chain), options.dropout);
  };
}

}  // namespace

AdapterMethod lora_plus_method() {
  AdapterMethod method;
  method.configure = configure_lora_plus;
  method.summary = "LoRA+: LoRA whose B has lr_ratio times the learning rate of A (Hayou et al. 2024)";
  method.default_lr = 3e-4;
  return method;
}

}  // namespace deeplora
