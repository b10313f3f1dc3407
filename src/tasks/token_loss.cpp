#include "tasks/token_loss.h"

#include <torch/torch.h>

#include "core/error.h"
#include "lm/token_labels.h"

namespace deeplora {
namespace {

constexpr int64_t kCells = 1 << 21;  ///< logits in one stretch: 8 MiB of float32

/// Calls body(first, places [m], labels [m]) for stretches of the predicted cells; `first` counts those before.
template <class Body>
void stretches(const torch::Tensor& labels, int64_t vocabulary, const Body& body) {
  const torch::Tensor flat = labels.flatten(), places = (flat != kIgnored).nonzero().squeeze(1);
  const int64_t step = std::max<int64_t>(1, kCells / vocabulary);
  for (int64_t start = 0; start < places.size(0); start += step) {
    const torch::Tensor here = places.slice(0, start, std::min(places.size(0), start + step));
    body(start, here, flat.index_select(0, here));
  }
}

class TokenLosses : public torch::autograd::Function<TokenLosses> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& logits,
                               const torch::Tensor& labels) {
    context->save_for_backward({logits, labels});
    const torch::Tensor flat = logits.reshape({-1, logits.size(-1)});
    const int64_t count = (labels != kIgnored).sum().item<int64_t>();
    torch::Tensor losses = torch::empty({count}, logits.options().dtype(torch::kFloat32));
    stretches(labels, logits.size(-1), [&](int64_t first, const torch::Tensor& places, const torch::Tensor& wanted) {
      const torch::Tensor scores = flat.index_select(0, places).to(torch::kFloat32);
      const torch::Tensor chosen = scores.gather(1, wanted.unsqueeze(1)).squeeze(1);
      losses.narrow(0, first, wanted.size(0)).copy_(scores.logsumexp(1) - chosen);
    });
    return losses;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& outer) {
    const auto saved = context->get_saved_variables();
    const torch::Tensor flat = saved[0].reshape({-1, saved[0].size(-1)});
    torch::Tensor gradient = torch::zeros_like(flat);
    stretches(saved[1], flat.size(1), [&](int64_t first, const torch::Tensor& places, const torch::Tensor& wanted) {
      torch::Tensor part = torch::softmax(flat.index_select(0, places).to(torch::kFloat32), 1);
      part.scatter_add_(1, wanted.unsqueeze(1), torch::full({wanted.size(0), 1}, -1.0, part.options()));
      part.mul_(outer[0].narrow(0, first, wanted.size(0)).unsqueeze(1));
      gradient.index_copy_(0, places, part.to(gradient.scalar_type()));
    });
    return {gradient.reshape(saved[0].sizes()), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor token_losses(const torch::Tensor& logits, const torch::Tensor& labels) {
  check(logits.dim() == 3 && labels.dim() == 2 && logits.size(0) == labels.size(0) && logits.size(1) == labels.size(1),
        "the loss needs logits of every token [B, T, V] and labels [B, T], found ", logits.sizes(), " and ",
        labels.sizes());
  check_token_labels(labels, logits.size(2));
  return TokenLosses::apply(logits, labels);
}

}  // namespace deeplora
