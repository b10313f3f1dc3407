// What stands in an adapter's slot to listen there.
#pragma once

#include <ATen/core/LegacyTypeDispatch.h>

#include "lm/language_model.h"

namespace deeplora {

/// Adds nothing to its layer and holds nothing that a file would; kinds of probes differ in what they listen to.
class SiteProbe : public Adapter {
 public:
  explicit SiteProbe(const AdapterSite& site)
      : out_(site.weight.size(0)),
        in_(site.weight.size(1)),
        options_(torch::TensorOptions(site.weight.device())
                     .dtype(site.weight.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32)) {}

  torch::Tensor forward(const torch::Tensor& x) override { return no_update(x); }
  torch::Tensor rows(const torch::Tensor& ids) override { return no_update(ids); }
  torch::Tensor delta() const override { return at::zeros({out_, in_}, options_); }
  std::vector<ParamGroup> param_groups() const override { return {}; }
  std::vector<NamedTensor> tensors() const override { return {}; }

  /// Zeros that take no memory; `input` is x [..., in] or ids [...].
  torch::Tensor no_update(const torch::Tensor& input) const {
    std::vector<int64_t> shape = input.sizes().vec();
    if (input.is_floating_point()) shape.back() = out_;
    else shape.push_back(in_);
    const at::AutoDispatchBelowADInplaceOrView plain;  // no view in autograd's eyes
    return at::zeros({}, input.is_floating_point() ? options_.dtype(input.scalar_type()) : options_).expand(shape);
  }

 protected:
  int64_t out_, in_;              ///< of the weight [out, in]
  torch::TensorOptions options_;  ///< device and dtype of what is computed: float64 in float64, else float32
};

}  // namespace deeplora
