// A LoRA pair that starts somewhere else than at zero, and takes its start out of the frozen part.
#pragma once

#include "factorization/factor_chain.h"
#include "lm/adapter.h"

namespace deeplora {

/// The update s (B A - B0 A0): zero at the start, whatever the pair. Methods whose papers write W - s B0 A0 into the
/// frozen weight are this, and the archive's weight stays W: W + delta() is their merged weight. Dropout acts on B A
/// alone.
class OffsetPair : public Adapter {
 public:
  /// a [r, in] and b [out, r] are where both pairs start; scale is s; dropout the probability of dropping an input.
  OffsetPair(const torch::Tensor& a, const torch::Tensor& b, double scale, double dropout);

  torch::Tensor forward(const torch::Tensor& x) override;
  torch::Tensor rows(const torch::Tensor& ids) override;
  torch::Tensor delta() const override;
  std::vector<ParamGroup> param_groups() const override { return trained_->param_groups(); }
  /// "A", "B" and the frozen "A0", "B0".
  std::vector<NamedTensor> tensors() const override;
  /// Rank 2r: [B, -B0] [A; A0], the conversion that PEFT's documentation describes for PiSSA.
  std::optional<LowRankPair> low_rank_pair() const override;
  torch::Tensor singular_values() const override;

 private:
  FactorChain trained_, start_;
  double dropout_;
};

}  // namespace deeplora
