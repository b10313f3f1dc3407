// PiSSA (Meng, Wang & Zhang 2024): LoRA that starts at the principal singular pairs of the weight and takes them out
// of the frozen part.
#include <torch/torch.h>

#include "adapters/chain_adapter.h"
#include "adapters/pair_options.h"
#include "adapters/registration.h"
#include "factorization/spectral.h"

namespace deeplora {
namespace {

/// The paper trains y = x (W_res + s B A)^T with W_res = W - s B0 A0. The archive's weight stays W here, so the update
/// is s (B A - B0 A0): zero at the start, and W + delta() is the paper's merged weight. Dropout acts on B A alone.
class PissaAdapter : public Adapter {
 public:
  PissaAdapter(FactorChain trained, FactorChain start, double dropout)
      : trained_(register_module("chain", std::move(trained))),
        start_(register_module("start", std::move(start))),
        dropout_(dropout) {}

  torch::Tensor forward(const torch::Tensor& x) override {
    const bool drop = dropout_ > 0 && is_training();
    return trained_->forward(drop ? at::dropout(x, dropout_, /*train=*/true) : x) - start_->forward(x);
  }
  torch::Tensor rows(const torch::Tensor& ids) override { return trained_->rows(ids) - start_->rows(ids); }
  torch::Tensor delta() const override {
    torch::NoGradGuard no_grad;
    return trained_->product() - start_->product();
  }
  std::vector<ParamGroup> param_groups() const override { return trained_->param_groups(); }
  std::vector<NamedTensor> tensors() const override {
    std::vector<NamedTensor> out;
    for (const FactorChain& chain : {trained_, start_})
      for (const auto& factor : chain->factors()) out.push_back({factor.name, factor.value});
    return out;
  }
  /// Rank 2r: [B, -B0] [A; A0], the conversion that PEFT's documentation describes.
  std::optional<LowRankPair> low_rank_pair() const override {
    torch::NoGradGuard no_grad;
    const auto [b, a] = trained_->collapse();
    const auto [b0, a0] = start_->collapse();
    return LowRankPair{at::cat({b, -b0}, 1), at::cat({a, a0}, 0), trained_->scale()};
  }
  torch::Tensor singular_values() const override {
    const auto pair = low_rank_pair();
    return deeplora::singular_values(*FactorChain(std::vector<Factor>{{"A", pair->a}, {"B", pair->b}}, pair->scale));
  }

 private:
  FactorChain trained_, start_;
  double dropout_;
};

std::shared_ptr<Adapter> build(const PairOptions& options, const AdapterContext& site) {
  const int64_t rank = options.ranks.of(site);
  const double scale = options.scale(rank);
  check(scale > 0, site.path, ": pissa needs an alpha above 0");
  const SingularPairs pairs = leading_singular_pairs(site.weight, rank, site.generator, /*iterations=*/8);
  const torch::Tensor root = (pairs.s / scale).sqrt();
  const torch::Tensor a = (pairs.v * root).t().to(site.factor_options), b = (pairs.u * root).to(site.factor_options);
  return std::make_shared<PissaAdapter>(FactorChain(std::vector<Factor>{{"A", a}, {"B", b}}, scale),
                                        FactorChain(std::vector<Factor>{{"A0", a, 0}, {"B0", b, 0}}, scale),
                                        options.dropout);
}

AdapterFactory configure_pissa(const Config& config) {
  const PairOptions options = read_pair_options(config);
  config.require(options.alpha > 0, "alpha", "a number above 0");
  return [options](const AdapterContext& site) { return build(options.at(site), site); };
}

}  // namespace

AdapterMethod pissa_method() {
  AdapterMethod method;
  method.configure = configure_pissa;
  method.uses_weights = "starts at the weights' own singular vectors and takes them out of the weights";
  method.summary = "PiSSA: LoRA that starts at the leading singular pairs of the weight itself (Meng et al. 2024)";
  method.default_lr = 5e-4;
  return method;
}

}  // namespace deeplora
