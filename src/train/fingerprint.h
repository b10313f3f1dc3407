// 64-bit checksums: is a file whole, did a tensor move, are these the same rows. Not for security.
#pragma once

#include <torch/types.h>

#include <span>
#include <string>

#include "core/fingerprint.h"
#include "tasks/task.h"

namespace deeplora {

/// Of the bits of a tensor on any device; -0 and 0 differ.
std::string fingerprint(const torch::Tensor& tensor);
/// Of everything a model or a loss may see of the rows, in order.
std::string fingerprint(std::span<const Example> examples);

}  // namespace deeplora
