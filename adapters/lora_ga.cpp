// LoRA-GA (Wang, Yu & Li 2024, arXiv 2407.05000): LoRA whose first step is as close as rank 2r allows to the first step
// of full fine-tuning.
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "adapters/offset_pair.h"
#include "adapters/pair_options.h"
#include "adapters/registration.h"

namespace deeplora {
namespace {

/// Theorem 3.1 with the stable scale of 3.3, as in the authors' code: of the gradient's pairs U S V^T the first r right
/// vectors are A's rows and the next r left ones are B's columns, both times out^(1/4) / sqrt(gamma). The start is
/// taken out of the frozen part. A weight with fewer than 2r pairs gives B its last r. Zeros where there is no
/// gradient: the values are then read from a file.
std::shared_ptr<Adapter> build(const PairOptions& options, double gamma, const AdapterContext& site) {
  const int64_t rank = options.ranks.of(site);
  torch::Tensor a = at::zeros({rank, site.in()}, site.factor_options);
  torch::Tensor b = at::zeros({site.out(), rank}, site.factor_options);
  if (site.leading_gradient) {
    const int64_t pairs_known = std::min({2 * rank, site.out(), site.in()});
    const SingularPairs pairs = gradient_to_start_from(site, pairs_known, "lora-ga");
    const double length = std::pow(static_cast<double>(site.out()), 0.25) / std::sqrt(gamma);
    a = (pairs.v.narrow(1, 0, rank) * length).t().to(site.factor_options);
    b = (pairs.u.narrow(1, pairs_known - rank, rank) * length).to(site.factor_options);
  }
  return std::make_shared<OffsetPair>(a, b, options.scale(rank), options.dropout);
}

AdapterFactory configure_lora_ga(const Config& config) {
  const PairOptions options = read_pair_options(config, Scaling::by_root_of_rank);
  double gamma = 16;
  config.read("stable_gamma", gamma,
              "the factors start with rows and columns of length out^(1/4) / sqrt(stable_gamma)");
  config.require(std::isfinite(gamma) && gamma > 0, "stable_gamma", "a number above 0");
  return [options, gamma](const AdapterContext& site) { return build(options.at(site), gamma, site); };
}

}  // namespace

AdapterMethod lora_ga_method() {
  AdapterMethod method;
  method.configure = configure_lora_ga;
  method.summary =
      "LoRA-GA: LoRA that starts along the gradient, so that its first step is nearly full fine-tuning's (Wang et al. "
      "2024)";
  method.default_lr = 3e-4;
  return method;
}

}  // namespace deeplora
