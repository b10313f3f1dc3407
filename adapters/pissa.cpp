// PiSSA (Meng, Wang & Zhang 2024): LoRA that starts at the principal singular pairs of the weight and takes them out
// of the frozen part.
#include <torch/torch.h>

#include "adapters/offset_pair.h"
#include "adapters/pair_options.h"
#include "adapters/registration.h"
#include "factorization/spectral.h"

namespace deeplora {
namespace {

/// The paper trains y = x (W_res + s B A)^T with W_res = W - s B0 A0: OffsetPair's update at the weight's own leading
/// pairs.
std::shared_ptr<Adapter> build(const PairOptions& options, const AdapterContext& site) {
  const int64_t rank = options.ranks.of(site);
  const double scale = options.scale(rank);
  check(scale > 0, site.path, ": pissa needs an alpha above 0");
  const SingularPairs pairs = leading_singular_pairs(site.weight, rank, site.generator, /*iterations=*/8);
  const torch::Tensor root = (pairs.s / scale).sqrt();
  const torch::Tensor a = (pairs.v * root).t().to(site.factor_options), b = (pairs.u * root).to(site.factor_options);
  return std::make_shared<OffsetPair>(a, b, scale, options.dropout);
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
