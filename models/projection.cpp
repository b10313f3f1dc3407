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

AdapterSite AdapterSlot::site(const std::string& role, SiteKind kind, int64_t uses) {
  AdapterSite site;
  site.path = path_;
  site.role = role;
  site.kind = kind;
  site.op = kind == SiteKind::linear ? "linear" : "embedding";
  site.weight = weight_;
  site.uses = uses;
  site.attach = [this](std::shared_ptr<Adapter> adapter) { attach(std::move(adapter)); };
  return site;
}

ProjectionImpl::ProjectionImpl(std::string path, torch::Tensor weight, torch::Tensor bias)
    : AdapterSlot(std::move(path), std::move(weight)) {
  if (bias.defined()) bias_ = register_parameter("bias", std::move(bias), /*requires_grad=*/false);
}

std::shared_ptr<ProjectionImpl> ProjectionImpl::of_transposed(std::string path, torch::Tensor stored, torch::Tensor bias) {
  // Detached: a view would take part in its base's gradient when the whole model is trained.
  auto out = std::make_shared<ProjectionImpl>(std::move(path), stored.t().detach(), std::move(bias));
  out->stored_ = out->register_parameter("stored", std::move(stored), /*requires_grad=*/false);
  return out;
}

AdapterSite ProjectionImpl::site(const std::string& role, SiteKind kind, int64_t uses) {
  AdapterSite site = AdapterSlot::site(role, kind, uses);
  site.transposed = stored_.defined();
  if (site.transposed) site.op = "addmm";
  return site;
}

torch::Tensor ProjectionImpl::forward(const torch::Tensor& x) {
  // `full` trains the archive's own tensor.
  const torch::Tensor weight = stored_.defined() && stored_.requires_grad() ? stored_.t() : weight_;
  return adapter_ ? adapter_->linear(x, weight, bias_) : at::linear(x, weight, bias_);
}

EmbeddingTableImpl::EmbeddingTableImpl(std::string path, torch::Tensor weight)
    : AdapterSlot(std::move(path), std::move(weight)) {}

torch::Tensor EmbeddingTableImpl::forward(const torch::Tensor& ids) {
  return adapter_ ? adapter_->embedding(ids, weight_) : at::embedding(weight_, ids);
}

torch::Tensor EmbeddingTableImpl::project(const torch::Tensor& x) {
  return adapter_ ? adapter_->linear(x, weight_, {}) : at::linear(x, weight_);
}

}  // namespace deeplora
