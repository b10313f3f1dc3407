#include "models/rotary.h"

#include <torch/torch.h>

#include <cmath>

namespace deeplora {
namespace {

/// number / x as Python's `number / tensor` computes it, to the last bit: frequencies are rounded, and positions
/// multiply what is lost.
torch::Tensor number_by(double number, const torch::Tensor& x) { return x.reciprocal() * number; }

/// Slow rotations are stretched by the factor, fast ones kept, those between interpolated (Llama 3.1).
torch::Tensor llama3_frequencies(const torch::Tensor& plain, const RotarySettings& rotary) {
  const double length = static_cast<double>(rotary.trained_length), longest = length / rotary.low,
               shortest = length / rotary.high;
  const torch::Tensor wavelength = number_by(2 * M_PI, plain);
  const torch::Tensor slow = torch::where(wavelength > longest, plain / rotary.factor, plain);
  const torch::Tensor share = (number_by(length, wavelength) - rotary.low) / (rotary.high - rotary.low);
  const torch::Tensor between = (1 - share) * slow / rotary.factor + share * slow;
  return torch::where((wavelength >= shortest) & (wavelength <= longest), between, slow);
}

}  // namespace

torch::Tensor rotary_frequencies(const RotarySettings& rotary, int64_t head_width) {
  const torch::Tensor plain =
      torch::pow(rotary.theta, torch::arange(0, head_width, 2, torch::kFloat32) / static_cast<double>(head_width))
          .reciprocal();
  if (rotary.type == "linear") return plain / rotary.factor;
  return rotary.type == "llama3" ? llama3_frequencies(plain, rotary) : plain;
}

RotaryAngles rotary_angles(const torch::Tensor& positions, const torch::Tensor& frequencies) {
  const torch::Tensor here = frequencies.to(positions.device());
  const torch::Tensor angle = positions.to(here.scalar_type()).unsqueeze(-1) * here;
  return {angle.cos(), angle.sin()};
}

torch::Tensor rotated(const torch::Tensor& x, int64_t heads, const RotaryAngles& angles) {
  if (!angles.cosines.defined()) return x;
  const torch::Tensor cosines = angles.cosines.unsqueeze(1), sines = angles.sines.unsqueeze(1);
  const auto halves = x.view({x.size(0), heads, -1}).chunk(2, -1);
  return torch::cat({halves[0] * cosines - halves[1] * sines, halves[1] * cosines + halves[0] * sines}, -1)
      .to(x.scalar_type())
      .flatten(1);
}

}  // namespace deeplora
