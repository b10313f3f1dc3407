// Operators that LibTorch made for inference alone, written out as the ordinary ones that they stand for.
#pragma once

#include <string>

#include "model_files/torchscript_file.h"

namespace deeplora {

/// Where a graph can choose between a path for inference and one with gradients (torch.nn's transformers), it takes the
/// one with gradients. What is left of `_transformer_encoder_layer_fwd`, `_native_multi_head_attention` and nested
/// tensors, which have no backward pass, becomes linear layers, attention and masks: the same values, with dropout at 0
/// where torch.nn has dropout. Throws Error, naming `where`, for a nested tensor that something else reads.
void lower_fused_operators(torch::jit::Graph& graph, const std::string& where);

}  // namespace deeplora
