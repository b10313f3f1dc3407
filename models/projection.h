// Frozen weights with an adapter slot. Every weight that a native family multiplies with goes through one of these.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "lm/language_model.h"

namespace deeplora {

/// The slot shared by both kinds: one adapter or none, registered as submodule so that train()/eval() reach it.
class AdapterSlot : public torch::nn::Module {
 public:
  void attach(std::shared_ptr<Adapter> adapter);
  const std::string& path() const { return path_; }
  const torch::Tensor& weight() const { return weight_; }
  AdapterSite site(const std::string& role, SiteKind kind);

 protected:
  AdapterSlot(std::string path, torch::Tensor weight);
  std::string path_;  ///< archive name of the weight
  torch::Tensor weight_;
  std::shared_ptr<Adapter> adapter_;
};

/// y = x W^T + b (+ the adapter's change). weight [out, in], bias [out] or undefined.
class ProjectionImpl : public AdapterSlot {
 public:
  ProjectionImpl(std::string path, torch::Tensor weight, torch::Tensor bias);
  torch::Tensor forward(const torch::Tensor& x);  ///< [..., in] -> [..., out]
  const torch::Tensor& bias() const { return bias_; }

 private:
  torch::Tensor bias_;
};
TORCH_MODULE(Projection);

/// Rows of W (+ the adapter's change). weight [V, D].
class EmbeddingTableImpl : public AdapterSlot {
 public:
  EmbeddingTableImpl(std::string path, torch::Tensor weight);
  torch::Tensor forward(const torch::Tensor& ids);  ///< [...] -> [..., D]
};
TORCH_MODULE(EmbeddingTable);

}  // namespace deeplora
