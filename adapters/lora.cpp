// LoRA (Hu et al. 2021) as PEFT starts it, rank-stabilised LoRA (Kalajdzievski 2023), and the Gaussian LoRA
// that the Deep LoRA paper compares with.
#include <torch/torch.h>

#include <cmath>

#include "adapters/chain_adapter.h"
#include "adapters/registration.h"
#include "factorization/initialization.h"

namespace deeplora {
namespace {

struct LoraOptions {
  int64_t rank = 8;
  double alpha = 16;
  double dropout = 0;
  bool gaussian = false;
  ZeroSide zero_side = ZeroSide::output;
  double scale = 2;  ///< what multiplies B A
};

// Keys and checks that both methods share; where the rank stands, for the factory's messages.
std::string read_common(const Config& config, LoraOptions& options) {
  config.read("rank", options.rank,
              "rank r of the update B A; at most the smaller side of every adapted weight");
  config.require(options.rank >= 1, "rank", "a rank of at least 1");
  config.read("dropout", options.dropout,
              "probability of dropping an input of the update in training; embeddings take none");
  config.require(options.dropout >= 0 && options.dropout < 1, "dropout", "a probability in [0, 1)");
  return config.where("rank");
}

std::shared_ptr<Adapter> build(const LoraOptions& options, const std::string& where,
                               const AdapterContext& site) {
  check_rank(where, options.rank, 1, site);
  const ChainShape shape{site.out(), site.in(), options.rank, 2};
  const auto& dtype = site.factor_options;
  // Embeddings start the same in PEFT, microsoft/LoRA and the paper's code: the side read by ids is zero, the
  // other N(0, 1).
  const bool embedding = site.kind == SiteKind::embedding;
  FactorChain chain = options.gaussian || embedding
                          ? gaussian_zero_chain(shape, embedding ? ZeroSide::output : options.zero_side, 1,
                                                options.scale, site.generator, dtype)
                          : kaiming_zero_chain(shape, options.scale, site.generator, dtype);
  return std::make_shared<ChainAdapter>(std::move(chain), options.dropout);
}

AdapterFactory factory(const LoraOptions& options, const std::string& where) {
  return [options, where](const AdapterContext& site) { return build(options, where, site); };
}

void read_alpha(const Config& config, LoraOptions& options, std::string_view doc) {
  config.read("alpha", options.alpha, doc);
  config.require(std::isfinite(options.alpha) && options.alpha != 0, "alpha", "a number other than zero");
}

AdapterFactory configure_lora(const Config& config) {
  LoraOptions options;
  const std::string where = read_common(config, options);
  std::string init = "kaiming";
  config.read_choice(
      "init", init, {"kaiming", "gaussian"},
      "kaiming: A uniform(-1/sqrt in, 1/sqrt in), B zero, as PEFT; gaussian: N(0, 1) and zero, the Deep LoRA "
      "paper's baseline");
  options.gaussian = init == "gaussian";
  if (options.gaussian) {
    std::optional<double> alpha;
    config.read("alpha", alpha,
                "the update is multiplied by alpha / rank; absent with init: gaussian, it is not scaled");
    config.require(!alpha || (std::isfinite(*alpha) && *alpha != 0), "alpha", "a number other than zero");
    options.scale = alpha ? *alpha / static_cast<double>(options.rank) : 1;
  } else {
    read_alpha(config, options, "the update is multiplied by alpha / rank");
    options.scale = options.alpha / static_cast<double>(options.rank);
  }
  if (options.gaussian || config.has("zero_side")) {
    std::string zero_side = "output";
    config.read_choice(
        "zero_side", zero_side, {"output", "input"},
        "with init: gaussian, the side of a linear weight that starts at zero: output as Hu et al., input as "
        "the Deep LoRA authors");
    if (!options.gaussian)
      config.mistake("zero_side", "is used with init: gaussian only; kaiming always starts B at zero");
    options.zero_side = zero_side == "input" ? ZeroSide::input : ZeroSide::output;
  }
  return factory(options, where);
}

AdapterFactory configure_rslora(const Config& config) {
  LoraOptions options;
  const std::string where = read_common(config, options);
  read_alpha(config, options, "the update is multiplied by alpha / sqrt(rank)");
  options.scale = options.alpha / std::sqrt(static_cast<double>(options.rank));
  return factory(options, where);
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
