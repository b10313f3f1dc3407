#include "lm/leading_gradients.h"

#include <torch/torch.h>

#include "core/random.h"
#include "factorization/lookup.h"
#include "factorization/streamed_pairs.h"
#include "lm/site_probe.h"

namespace deeplora {
namespace {

class GradientProbe;

/// Zeros in the shape of the layer's output, whose backward pass tells the probe dy. `anchor` makes the output need a
/// gradient where x needs none.
struct Listen : torch::autograd::Function<Listen> {
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& input,
                               const torch::Tensor& anchor, GradientProbe* probe);
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients);
};

class GradientProbe : public SiteProbe {
 public:
  GradientProbe(const AdapterSite& site, int64_t k, at::Generator generator)
      : SiteProbe(site),
        anchor_(register_parameter("anchor", at::zeros({}, options_))),  // known to layers that are computed again
        pairs_(out_, in_, k, options_, std::move(generator)) {}

  torch::Tensor forward(const torch::Tensor& x) override { return Listen::apply(x, anchor_, this); }
  torch::Tensor rows(const torch::Tensor& ids) override { return Listen::apply(ids, anchor_, this); }

  void hear(const torch::Tensor& input, const torch::Tensor& gradient) {
    torch::NoGradGuard no_grad;
    if (!gradient.isfinite().all().item<bool>()) {
      finite_ = false;
      return;
    }
    const torch::Tensor dy = gradient.reshape({-1, gradient.size(-1)}).to(options_);
    if (input.is_floating_point()) {
      const torch::Tensor x = input.reshape({-1, in_}).to(options_);
      pairs_.add({out_, in_, options_,
                  [&](const torch::Tensor& right) { return at::matmul(dy.t(), at::matmul(x, right)); },
                  [&](const torch::Tensor& left) { return at::matmul(x.t(), at::matmul(dy, left)); }});
    } else {
      const torch::Tensor ids = input.reshape(-1);
      pairs_.add({out_, in_, options_,
                  [&](const torch::Tensor& right) {
                    return at::zeros({out_, right.size(1)}, options_).index_add_(0, ids, at::matmul(dy, right));
                  },
                  [&](const torch::Tensor& left) { return at::matmul(dy.t(), left.index_select(0, ids)); }});
    }
  }

  const torch::Tensor& anchor() const { return anchor_; }
  StreamedPairs& pairs() { return pairs_; }
  bool finite() const { return finite_; }

 private:
  torch::Tensor anchor_;
  StreamedPairs pairs_;
  bool finite_ = true;
};

torch::Tensor Listen::forward(torch::autograd::AutogradContext* context, const torch::Tensor& input,
                              const torch::Tensor&, GradientProbe* probe) {
  context->save_for_backward({input});
  context->saved_data["probe"] = reinterpret_cast<int64_t>(probe);
  context->saved_data["padding"] = LookupScope::current().padding;
  return probe->no_update(input);
}

torch::autograd::variable_list Listen::backward(torch::autograd::AutogradContext* context,
                                                torch::autograd::variable_list gradients) {
  auto* probe = reinterpret_cast<GradientProbe*>(context->saved_data["probe"].toInt());
  const torch::Tensor input = context->get_saved_variables().front();
  torch::Tensor heard = gradients.front();
  if (!input.is_floating_point())
    heard = heard.masked_fill((input == context->saved_data["padding"].toInt()).unsqueeze(-1), 0);
  probe->hear(input, heard);
  return {torch::Tensor(), at::zeros_like(probe->anchor()), torch::Tensor()};
}

/// Probes in every slot while it lives.
class Probes {
 public:
  Probes(const std::vector<AdapterSite>& sites, int64_t k, uint64_t seed) : sites_(sites) {
    for (const auto& site : sites_) {
      probes_.push_back(std::make_shared<GradientProbe>(site, k, make_generator(seed, "start/" + site.path)));
      site.attach(probes_.back());
    }
  }
  ~Probes() {
    for (const auto& site : sites_) site.attach(nullptr);
  }
  Probes(const Probes&) = delete;

  void take(const torch::Tensor& loss) {
    check(loss.isfinite().item<bool>(),
          "the loss at the start is not finite, so no adapter can start from its gradient; check the data and the "
          "model's precision");
    std::vector<torch::Tensor> anchors;
    for (const auto& probe : probes_) anchors.push_back(probe->anchor());
    check(loss.requires_grad(),
          "the loss does not depend on any of the targets; check adapter.targets and model.output");
    const auto reached = torch::autograd::grad({loss}, anchors, {}, std::nullopt, false, /*allow_unused=*/true);
    Errors errors;
    for (size_t i = 0; i < sites_.size(); ++i) {
      if (!reached[i].defined())
        errors.add(sites_[i].path,
                   ": the loss does not depend on this weight, so no adapter can start from its "
                   "gradient; leave it out of adapter.targets");
      else if (!probes_[i]->finite())
        errors.add("the gradient of ", sites_[i].path,
                   " at the start has infinities or NaN; check the data and the model's precision");
    }
    errors.throw_if_any();
  }

  bool end_pass() {
    bool again = false;
    for (auto& probe : probes_) again |= probe->pairs().end_pass();
    return again;
  }

  std::map<std::string, SingularPairs> pairs() const {
    std::map<std::string, SingularPairs> out;
    for (size_t i = 0; i < sites_.size(); ++i) out[sites_[i].path] = probes_[i]->pairs().pairs();
    return out;
  }

 private:
  const std::vector<AdapterSite>& sites_;
  std::vector<std::shared_ptr<GradientProbe>> probes_;
};

}  // namespace

std::map<std::string, SingularPairs> leading_gradients(const std::vector<AdapterSite>& sites, int64_t k,
                                                       const StartingLosses& losses, uint64_t seed) {
  Probes probes(sites, k, seed);
  do {
    losses([&probes](const torch::Tensor& loss) { probes.take(loss); });
  } while (probes.end_pass());
  return probes.pairs();
}

}  // namespace deeplora
