// The adapter that most methods need: one factor chain, with dropout on its input.
#pragma once

#include "factorization/factor_chain.h"
#include "lm/adapter.h"

namespace deeplora {

/// delta = chain->product(). As in PEFT, dropout acts on the input of a linear site and embedding sites take
/// none.
class ChainAdapter : public Adapter {
 public:
  /// dropout is the probability of dropping an input, in [0, 1). The chain's factors become the adapter's
  /// parameters.
  ChainAdapter(FactorChain chain, double dropout);

  torch::Tensor forward(const torch::Tensor& x) override;
  /// One fused function where nothing stands between the input and the chain.
  torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias) override;
  std::optional<ChainUpdate> chain_update() const override;
  torch::Tensor rows(const torch::Tensor& ids) override;
  torch::Tensor delta() const override;
  std::vector<ParamGroup> param_groups() const override { return chain_->param_groups(); }
  /// Every factor under its name, from input to output; frozen ones too.
  std::vector<NamedTensor> tensors() const override;
  /// The collapsed chain: exact for any depth.
  std::optional<LowRankPair> low_rank_pair() const override;
  /// min(out, in, width) values in float64; the others are zero.
  torch::Tensor singular_values() const override;

  const FactorChain& chain() const { return chain_; }

 private:
  FactorChain chain_;
  double dropout_;
};

}  // namespace deeplora
