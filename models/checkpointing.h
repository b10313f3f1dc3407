// Gradient checkpointing: a layer keeps its inputs only, and is computed again in the backward pass.
#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <vector>

namespace deeplora {

using LayerFunction = std::function<torch::Tensor(const std::vector<torch::Tensor>& inputs)>;

/// layer(inputs) without keeping anything but `inputs` for the backward pass (Chen et al. 2016, arXiv 1604.06174, one
/// segment a layer). Random numbers and autocast are those of the first computation, so dropout and gradients are too.
/// `owner` holds every tensor that the layer trains among its parameters; `layer` must own what it reads, since it runs
/// again later. Costs nothing where no gradient is asked for: layers below the first adapter.
torch::Tensor recomputed(const torch::nn::Module& owner, const std::vector<torch::Tensor>& inputs, LayerFunction layer);

}  // namespace deeplora
