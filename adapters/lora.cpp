// LoRA (Hu et al. 2021) as PEFT starts it, rank-stabilised LoRA (Kalajdzievski 2023), and the Gaussian LoRA
// that the Deep LoRA paper compares with.
#include <torch/torch.h>

#include "adapters/chain_adapter.h"
#include "adapters/pair_options.h"
#include "adapters/registration.h"
#include "factorization/initialization.h"

namespace deeplora {
namespace {

AdapterFactory peft_factory(const PairOptions& options) {
  return [options](const AdapterContext& site) -> std::shared_ptr<Adapter> {
    return std::make_shared<ChainAdapter>(peft_pair(options.at(site), site), options.dropout);
  };
}

AdapterFactory gaussian_factory(const PairOptions& options, ZeroSide zero_side) {
  return [options, zero_side](const AdapterContext& site) -> std::shared_ptr<Adapter> {
    // Embeddings start the same in PEFT, microsoft/LoRA and the paper's code.
    const PairOptions here = options.at(site);
    if (site.kind == SiteKind::embedding) return std::make_shared<ChainAdapter>(peft_pair(here, site), options.dropout);
    const int64_t rank = here.ranks.of(site);
    return std::make_shared<ChainAdapter>(gaussian_zero_chain({site.out(), site.in(), rank, 2}, zero_side, 1,
                                                              here.scale(rank), site.generator, site.factor_options),
                                          options.dropout);
  };
}

AdapterFactory configure_lora(const Config& config) {
  std::string init = "kaiming", zero_side = "output";
  config.read_choice(
      "init", init, {"kaiming", "gaussian"},
      "kaiming: A uniform(-1/sqrt in, 1/sqrt in), B zero, as PEFT; gaussian: N(0, 1) and zero, the Deep LoRA "
      "paper's baseline");
  const bool gaussian = init == "gaussian";
  PairOptions options = gaussian ? read_rank_and_dropout(config) : read_pair_options(config);
  if (gaussian) {
    read_optional_alpha(config, options,
                        "the update is multiplied by alpha / rank; absent with init: gaussian, it is not scaled");
    options.own = read_site_values(config);
  }
  if (gaussian || config.has("zero_side")) {
    config.read_choice(
        "zero_side", zero_side, {"output", "input"},
        "with init: gaussian, the side of a linear weight that starts at zero: output as Hu et al., input as "
        "the Deep LoRA authors");
    if (!gaussian) config.mistake("zero_side", "is used with init: gaussian only; kaiming always starts B at zero");
  }
  if (!gaussian) return peft_factory(options);
  return gaussian_factory(options, zero_side == "input" ? ZeroSide::input : ZeroSide::output);
}

AdapterFactory configure_rslora(const Config& config) {
  return peft_factory(read_pair_options(config, Scaling::by_root_of_rank));
}

}  // namespace

AdapterMethod lora_method() {
  AdapterMethod method;
  method.configure = configure_lora;
  method.summary = "LoRA: a rank-r update B A scaled by alpha / r (Hu et al. 2021)";
  method.default_lr = 2e-3;
  return method;
}

AdapterMethod rslora_method() {
  AdapterMethod method;
  method.configure = configure_rslora;
  method.summary =
      "rank-stabilised LoRA: scaled by alpha / sqrt(r), so that large ranks train as well (Kalajdzievski "
      "2023)";
  method.default_lr = 2e-3;
  return method;
}

}  // namespace deeplora
