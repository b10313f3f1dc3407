#include "models/relative_positions.h"

#include <torch/torch.h>

#include <cmath>

namespace deeplora {

torch::Tensor relative_buckets(const torch::Tensor& distance, bool bidirectional, int64_t buckets,
                               int64_t max_distance) {
  torch::Tensor base = torch::zeros_like(distance), back;
  if (bidirectional) {
    buckets /= 2;
    base = (distance > 0).to(torch::kInt64) * buckets;
    back = distance.abs();
  } else {
    back = (-distance).clamp_min(0);
  }
  const int64_t exact = buckets / 2;
  const double span = std::log(static_cast<double>(max_distance) / static_cast<double>(exact));
  const torch::Tensor far = torch::log(back.clamp_min(1).to(torch::kFloat32) / static_cast<double>(exact)) / span *
                            static_cast<double>(buckets - exact);
  const torch::Tensor large = (exact + far.to(torch::kInt64)).clamp_max(buckets - 1);
  return base + torch::where(back < exact, back, large);
}

torch::Tensor log_buckets(const torch::Tensor& distance, int64_t buckets, int64_t farthest) {
  if (buckets == 0) return distance;
  const int64_t exact = buckets / 2;
  const torch::Tensor far = distance.abs().clamp_min(exact - 1);
  // float32 throughout, as in the reference: where a logarithm falls on a whole number, rounding decides about the
  // bucket.
  const torch::Tensor span =
      torch::log(torch::scalar_tensor(static_cast<double>(farthest - 1) / static_cast<double>(exact), torch::kFloat32));
  const torch::Tensor steps =
      torch::log(far.to(torch::kFloat32) / static_cast<double>(exact)) / span.to(distance.device());
  const torch::Tensor large = torch::ceil(steps * static_cast<double>(exact - 1)) + static_cast<double>(exact);
  return torch::where(far <= exact, distance, (large * distance.sign()).to(torch::kInt64));
}

}  // namespace deeplora
