// A TorchScript forward as one flat graph whose weights are inputs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model_files/code_files.h"

namespace deeplora {

/// A tensor of the module that forward reads.
struct LiftedTensor {
  std::string name;     ///< in the archive; tied weights have their first name
  torch::Tensor value;  ///< detached alias of the archive's storage; float32 memory of its own once a half-precision
                        ///< weight is trained
  at::ScalarType type;  ///< what the archive stores and its code computes with
  bool parameter;       ///< false for buffers and plain attributes
};

/// Inputs of `graph` are forward's arguments (without self), then `tensors`.
struct LoweredForward {
  std::shared_ptr<torch::jit::Graph> graph;
  size_t arguments = 0;
  std::vector<LiftedTensor> tensors;
};

/// Inlines every call, replaces attributes by inputs (tensors) or constants (everything else, flags as eval()
/// sets them) and removes what cannot be reached then. The archive's own module stays as it is. Throws Error
/// for archives without weights, with quantised ones, and for code whose weights cannot be followed.
LoweredForward lower_forward(const CodeFiles& archive);

}  // namespace deeplora
