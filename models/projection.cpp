#include "models/projection.h"

#include <torch/torch.h>

namespace deeplora {

AdapterSlot::AdapterSlot(std::string path, torch::Tensor weight) : path_(std::move(path)) {
  weight_ = register_parameter("weight", std::move(weight), /*requires_grad=*/false);
}

void AdapterSlot::attach(std::shared_ptr<Adapter> adapter) {
  if (adapter_) unregister_module("adapter");
  adapter_ = std::move(adapter);
  if (adapter_) register_module("adapter", adapter_);
}

AdapterSite AdapterSlot::site(const std::string& role, SiteKind kind) {
  AdapterSite site;
  site.path = path_;
  site.role = role;
  site.kind = kind;
  site.op = kind == SiteKind::linear ? "linear" : "embedding";
  site.weight = weight_;
  site.attach = [this](std::shared_ptr<Adapter> adapter) { attach(std::move(adapter)); };
  return site;
}

ProjectionImpl::ProjectionImpl(std::string path, torch::Tensor weight, torch::Tensor bias)
    : AdapterSlot(std::move(path), std::move(weight)) {
  if (bias.defined()) bias_ = register_parameter("bias", std::move(bias), /*requires_grad=*/false);
}

torch::Tensor ProjectionImpl::forward(const torch::Tensor& x) {
  return adapter_ ? adapter_->linear(x, weight_, bias_) : at::linear(x, weight_, bias_);
}

EmbeddingTableImpl::EmbeddingTableImpl(std::string path, torch::Tensor weight)
    : AdapterSlot(std::move(path), std::move(weight)) {}

torch::Tensor EmbeddingTableImpl::forward(const torch::Tensor& ids) {
  return adapter_ ? adapter_->embedding(ids, weight_) : at::embedding(weight_, ids);
}

}  // namespace deeplora
