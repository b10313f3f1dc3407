#include "models/projection.h"

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

#include <algorithm>

#include "models/activation.h"

namespace deeplora {

AdapterSlot::AdapterSlot(std::string path, torch::Tensor weight) : path_(std::move(path)) {
  weight_ = register_parameter("weight", std::move(weight), /*requires_grad=*/false);
}

void AdapterSlot::attach(std::shared_ptr<Adapter> adapter) {
  if (adapter_) unregister_module("adapter");
  adapter_ = std::move(adapter);
  if (adapter_) register_module("adapter", adapter_);
}

int64_t AdapterSlot::quantize(Quantization kind) {
  check(weight_.device().is_cpu() && (weight_.scalar_type() == torch::kFloat32 || is_half(weight_)), "weight ", path_,
        " is ", weight_.scalar_type(), " on ", weight_.device(),
        "; model.quantize takes float32, bfloat16 and float16 on the CPU");
  quantized_ = quantized_lines(weight_, kind);
  if (stored_in_) stored_in_->let_go(weight_);
  return quantized_->bytes();
}

FrozenMatrix AdapterSlot::operand_of(const torch::Tensor& weight) {
  if (quantized_) return FrozenMatrix(FrozenMatrix::Lines{quantized_});
  return copy_.of(weight, [&] {
    if (stored_in_) stored_in_->take_over(weight);
  });
}

torch::Tensor AdapterSlot::multiply(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias) {
  if (quantized_) return multiply_quantized(x, bias);
  if (at::autocast::is_autocast_enabled(x.device().type())) {
    // Methods that do more than add a chain (DoRA's norms) look at the weight itself.
    const auto update = adapter_ ? adapter_->chain_update() : ChainUpdate{};
    if (update && can_fuse_chain(x, weight, bias, update->factors)) {
      return linear_with_chain(x, operand_of(weight), bias, update->factors, update->scale);
    }
  }
  return adapter_ ? adapter_->linear(x, weight, bias) : frozen_linear(x, weight, bias);
}

torch::Tensor AdapterSlot::multiply_quantized(const torch::Tensor& x, const torch::Tensor& bias) {
  if (x.numel() == 0) return at::linear(x, weight_.to(x.scalar_type()), bias);
  const auto update = adapter_ ? adapter_->chain_update() : ChainUpdate{};
  if (update && can_fuse_chain(x, weight_, bias, update->factors))
    return linear_with_chain(x, operand(), bias, update->factors, update->scale);
  const torch::Tensor y = linear_with_chain(x, operand(), bias, {}, 1);
  return adapter_ ? y + adapter_->forward(x) : y;
}

torch::Tensor AdapterSlot::token_losses(const torch::Tensor& states, const torch::Tensor& labels) {
  return output_losses(states.to(torch::kFloat32), operand_of(weight_), weight_.size(0), labels);
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
  if (kind == SiteKind::linear) site.quantize = [this](Quantization bits) { return quantize(bits); };
  return site;
}

ProjectionImpl::ProjectionImpl(std::string path, torch::Tensor weight, torch::Tensor bias)
    : AdapterSlot(std::move(path), std::move(weight)) {
  if (bias.defined()) bias_ = register_parameter("bias", std::move(bias), /*requires_grad=*/false);
}

std::shared_ptr<ProjectionImpl> ProjectionImpl::of_transposed(std::string path, torch::Tensor stored,
                                                              torch::Tensor bias) {
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
  return multiply(x, weight, bias_);
}

torch::Tensor ProjectionImpl::of_function(const torch::Tensor& x, std::optional<InputFunction> function) {
  const auto update = function ? chain_update() : std::nullopt;
  if (!update || !can_apply(x) || !can_fuse_chain(x, weight_, bias_, update->factors)) return {};
  return linear_with_chains(x, operand(), bias_, {{weight_.size(0), *update}}, *function).front();
}

torch::Tensor ProjectionImpl::of_activated(const torch::Tensor& x, const std::string& activation) {
  const torch::Tensor y = of_function(x, input_function(activation));
  return y.defined() ? y : forward(activate(x, activation));
}

torch::Tensor ProjectionImpl::of_gated(const torch::Tensor& gate_up, const std::string& activation) {
  const torch::Tensor y = of_function(gate_up, gate_function(activation));
  return y.defined() ? y : forward(activate_gate(gate_up, activation));
}

std::optional<ChainUpdate> ProjectionImpl::chain_update() const {
  if ((stored_.defined() && stored_.requires_grad()) || weight_.requires_grad() ||
      (bias_.defined() && bias_.requires_grad()))
    return std::nullopt;
  return adapter_ ? adapter_->chain_update() : ChainUpdate{};
}

namespace {

/// `part` and every owner of the same memory look into `place`, which has its values.
void move_to(torch::Tensor part, const torch::Tensor& place, const std::vector<torch::Tensor>& owners) {
  for (torch::Tensor owner : owners)
    if (owner.defined() && owner.data_ptr() == part.data_ptr() && owner.sizes() == part.sizes() && !owner.is_same(part))
      owner.set_data(place);
  part.set_data(place);
}

/// The tensors one below the other; each becomes a view of its part, and so does every owner of the same memory.
torch::Tensor join_in_place(const std::vector<torch::Tensor>& parts, const std::vector<torch::Tensor>& owners) {
  const torch::NoGradGuard no_grad;
  torch::Tensor joined = at::cat(parts);
  int64_t row = 0;
  for (const torch::Tensor& part : parts) {
    move_to(part, joined.narrow(0, row, part.size(0)), owners);
    row += part.size(0);
  }
  return joined;
}

}  // namespace

void JoinedProjections::leave_weights() {
  for (const auto& projection : projections_) {
    const torch::Tensor place =
        projection->stored_in() ? projection->stored_in()->find(projection->weight()) : torch::Tensor();
    if (!place.defined()) continue;
    move_to(projection->weight(), place, owners_);
    projection->stored_in()->let_go(place);
  }
  weight_ = torch::Tensor();
}

torch::Tensor JoinedProjections::rows_from(size_t first, const std::vector<torch::Tensor>& parts,
                                           torch::Tensor& joined) const {
  // Moving the model to a device gives every part a tensor of its own again.
  if (!joined.defined() || joined.data_ptr() != parts.front().data_ptr()) {
    std::vector<torch::Tensor> before;
    for (const torch::Tensor& part : parts) before.push_back(part.detach());
    joined = join_in_place(parts, owners_);
    for (size_t i = 0; i < before.size(); ++i)  // nobody reads these again
      if (const auto& stored = projections_[i]->stored_in(); stored && before[i].dim() == 2)
        stored->take_over(before[i]);
  }
  int64_t row = 0;
  for (size_t i = 0; i < first; ++i) row += parts[i].size(0);
  return row == 0 ? joined : joined.narrow(0, row, joined.size(0) - row);
}

std::optional<JoinedProjections::Joined> JoinedProjections::joined_from(size_t first, const torch::Tensor& x,
                                                                        AutocastCopy& copy) {
  std::vector<torch::Tensor> weights, biases, factors;
  for (const auto& projection : projections_) {
    weights.push_back(projection->weight());
    if (projection->bias().defined()) biases.push_back(projection->bias());
  }
  const bool biased = biases.size() == projections_.size();
  Joined out;
  for (size_t i = first; i < projections_.size(); ++i) {
    const auto& projection = projections_[i];
    auto update = projection->chain_update();
    if (!update || (projection->bias().defined() && !biased)) return std::nullopt;
    factors.insert(factors.end(), update->factors.begin(), update->factors.end());
    out.layers.push_back({weights[i].size(0), std::move(*update)});
  }
  if (biased) out.bias = rows_from(first, biases, bias_);
  if (!can_fuse_chain(x, weights[first], out.bias, factors)) return std::nullopt;
  const auto is_quantized = [](const Projection& projection) { return projection->is_quantized(); };
  if (std::any_of(projections_.begin(), projections_.end(), is_quantized)) {
    if (!std::all_of(projections_.begin(), projections_.end(), is_quantized)) return std::nullopt;
    for (size_t i = first; i < projections_.size(); ++i)
      out.operand.quantized.push_back(projections_[i]->operand().quantized.front());
    return out;
  }
  const std::vector<torch::Tensor> rest(weights.begin() + static_cast<ptrdiff_t>(first), weights.end());
  if (std::any_of(weights.begin(), weights.end(), is_half)) {
    for (size_t i = first; i < projections_.size(); ++i)
      out.operand.parts.push_back(projections_[i]->operand().parts[0]);
    return out;
  }
  out.operand = {rest.front(), copy.panels_of(rest, [this] { leave_weights(); })};
  if (!out.operand.panels.defined()) out.operand = copy.of(rows_from(first, weights, weight_));
  return out;
}

std::vector<torch::Tensor> JoinedProjections::from(size_t first, const torch::Tensor& x, AutocastCopy& copy) {
  if (const auto joined = joined_from(first, x, copy))
    return linear_with_chains(x, joined->operand, joined->bias, joined->layers);
  std::vector<torch::Tensor> out;
  for (size_t i = first; i < projections_.size(); ++i) out.push_back(projections_[i](x));
  return out;
}

torch::Tensor JoinedProjections::as_one(const torch::Tensor& x) {
  if (const auto joined = joined_from(0, x, copy_))
    return linear_with_chains_as_one(x, joined->operand, joined->bias, joined->layers);
  return at::cat(forward(x), -1);
}

EmbeddingTableImpl::EmbeddingTableImpl(std::string path, torch::Tensor weight, LookupOptions lookups)
    : AdapterSlot(std::move(path), std::move(weight)), lookups_(lookups) {}

torch::Tensor EmbeddingTableImpl::forward(const torch::Tensor& ids) {
  const LookupScope scope(lookups_);
  if (!is_half(weight_)) return adapter_ ? adapter_->embedding(ids, weight_) : look_up(weight_, ids);
  const torch::Tensor base = look_up(weight_, ids).to(torch::kFloat32);
  return adapter_ ? base + adapter_->rows(ids).to(torch::kFloat32) : base;
}

AdapterSite EmbeddingTableImpl::word_site(int64_t uses) {
  AdapterSite out = site("embedding", SiteKind::embedding, uses);
  out.reads_ids = true;
  return out;
}

torch::Tensor EmbeddingTableImpl::project(const torch::Tensor& x) { return multiply(x, weight_, {}); }

}  // namespace deeplora
