// Rotary positions (Su et al. 2021, arXiv 2104.09864): their frequencies, and heads turned by them.
#pragma once

#include "models/attention.h"
#include "models/settings.h"

namespace deeplora {

/// [d / 2] float32, radians per position, of heads of width d.
torch::Tensor rotary_frequencies(const RotarySettings& rotary, int64_t head_width);

/// Of positions [N] int64 and frequencies [d / 2], on the positions' device.
RotaryAngles rotary_angles(const torch::Tensor& positions, const torch::Tensor& frequencies);

/// x [N, H d] turned by the tokens' angles; x itself where there are none.
torch::Tensor rotated(const torch::Tensor& x, int64_t heads, const RotaryAngles& angles);

}  // namespace deeplora
