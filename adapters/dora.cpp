// DoRA (Liu et al. 2024): the adapted weight is a magnitude times the direction of W + s B A.
#include <torch/torch.h>

#include "adapters/chain_adapter.h"
#include "adapters/pair_options.h"
#include "adapters/registration.h"
#include "factorization/chain_linear.h"

namespace deeplora {
namespace {

/// W' = m (W + s B A) / ||W + s B A||, as in PEFT: of a linear weight the norm is that of each row (one output) and m
/// is [out]; of an embedding it is that of each column and m is [in]. The norm is a constant in the backward pass
/// (section 4.3 of the paper). m starts as the norm of W, so the update starts at zero.
class DoraAdapter : public Adapter {
 public:
  DoraAdapter(FactorChain chain, const AdapterContext& site, double dropout)
      : chain_(register_module("chain", std::move(chain))),
        weight_(site.weight.detach()),
        by_row_(site.kind != SiteKind::embedding),
        dropout_(dropout) {
    torch::NoGradGuard no_grad;
    const auto dtype = c10::typeMetaToScalarType(site.factor_options.dtype());
    const torch::Tensor norms = at::linalg_vector_norm(weight_, 2, {by_row_ ? 1 : 0}, false, torch::kFloat64);
    check(norms.min().item<double>() > 0, site.path, ": its ", by_row_ ? "row " : "column ",
          norms.argmin().item<int64_t>(), " is zero, so dora has no direction there; leave it out of adapter.targets");
    squares_ = norms.square().to(dtype);
    magnitude_ = register_parameter("magnitude", norm().clone());
  }

  torch::Tensor forward(const torch::Tensor& x) override {
    const torch::Tensor in = dropout_ > 0 && is_training() ? at::dropout(x, dropout_, /*train=*/true) : x;
    const torch::Tensor c = scale();
    if (by_row_)
      return (wide(frozen_linear(in, weight_, {})) * (c - 1) + wide(chain_->forward(in)) * c).to(x.scalar_type());
    return frozen_linear((wide(in) * (c - 1)).to(x.scalar_type()), weight_, {}) +
           chain_->forward((wide(in) * c).to(x.scalar_type()));
  }
  torch::Tensor rows(const torch::Tensor& ids) override {
    const torch::Tensor c =
        by_row_ ? scale().index_select(0, ids.reshape(-1)).view(ids.sizes()).unsqueeze(-1) : scale();
    return wide(at::embedding(weight_, ids)) * (c - 1) + chain_->rows(ids) * c;
  }
  /// Without dropout one product with W serves both parts.
  torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias) override {
    if (!by_row_ || (dropout_ > 0 && is_training())) return Adapter::linear(x, weight, bias);
    const torch::Tensor base = frozen_linear(x, weight, {});
    const torch::Tensor out = ((wide(base) + wide(chain_->forward(x))) * scale()).to(base.scalar_type());
    return bias.defined() ? out + bias : out;
  }
  torch::Tensor delta() const override {
    torch::NoGradGuard no_grad;
    const torch::Tensor c = by_row_ ? scale().unsqueeze(1) : scale();
    return wide(weight_) * (c - 1) + chain_->product() * c;
  }
  std::vector<ParamGroup> param_groups() const override {
    std::vector<ParamGroup> groups = chain_->param_groups();
    groups.push_back({{{"magnitude", magnitude_}}, 1.0, /*decay=*/false});
    return groups;
  }
  std::vector<NamedTensor> tensors() const override {
    std::vector<NamedTensor> out;
    for (const auto& factor : chain_->factors()) out.push_back({factor.name, factor.value});
    out.push_back({"magnitude", magnitude_});
    return out;
  }
  std::optional<PeftUpdate> peft_update() const override {
    const auto [b, a] = chain_->collapse();
    return PeftUpdate{{b.detach(), a.detach(), chain_->scale()}, magnitude_.detach()};
  }

 private:
  torch::Tensor wide(const torch::Tensor& value) const { return value.to(squares_.scalar_type()); }

  /// Norms of W + s B A without forming it: ||w||^2 + 2 s w . (B A) + s^2 ||B A||^2 by row or column.
  torch::Tensor norm() const {
    torch::NoGradGuard no_grad;
    const auto [b, a] = chain_->collapse();
    const double s = chain_->scale();
    const torch::Tensor w = wide(weight_);
    // cross [out, r] = W A^T, gram [r, r] = A A^T; of columns B^T W [r, in] and B^T B.
    const torch::Tensor mixed = by_row_
                                    ? (b * (at::matmul(w, a.t()) * 2 + at::matmul(b, at::matmul(a, a.t())) * s)).sum(1)
                                    : (a * (at::matmul(b.t(), w) * 2 + at::matmul(at::matmul(b.t(), b), a) * s)).sum(0);
    return (squares_ + mixed * s).clamp_min(1e-30).sqrt();
  }
  /// m / ||W + s B A||, with gradient in m only.
  torch::Tensor scale() const { return magnitude_ / norm(); }

  FactorChain chain_;
  torch::Tensor weight_;   ///< the base model's, not a parameter of this module
  torch::Tensor squares_;  ///< squared norms of its rows or columns
  torch::Tensor magnitude_;
  bool by_row_;
  double dropout_;
};

AdapterFactory configure_dora(const Config& config) {
  const PairOptions options = read_pair_options(config);
  return [options](const AdapterContext& site) -> std::shared_ptr<Adapter> {
    return std::make_shared<DoraAdapter>(peft_pair(options.at(site), site), site, options.dropout);
  };
}

}  // namespace

AdapterMethod dora_method() {
  AdapterMethod method;
  method.configure = configure_dora;
  method.uses_weights = "divides every weight's rows by their norms";
  method.summary = "DoRA: trains a magnitude and, by LoRA, a direction for every output (Liu et al. 2024)";
  method.default_lr = 2e-3;
  return method;
}

}  // namespace deeplora
