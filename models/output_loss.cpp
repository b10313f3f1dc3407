#include "models/output_loss.h"

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

#include <algorithm>

#include "core/parallel.h"
#include "factorization/products.h"
#include "lm/language_model.h"
#include "lm/token_labels.h"
#include "models/vector_loops.h"

namespace deeplora {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kCells =
    int64_t{1} << 22;  ///< logits in one stretch: 16 MiB of float32, which a processor's last cache holds

/// Writes the losses of a stretch's tokens [m]; scores [m, V] are overwritten, with `gradient` by the gradient of that.
void losses_of(torch::Tensor& scores, const torch::Tensor& labels, bool gradient, float* losses) {
  const int64_t rows = scores.size(0), columns = scores.size(1);
  float* cells = scores.mutable_data_ptr<float>();
  const int64_t* wanted = labels.const_data_ptr<int64_t>();
  parallel_rows(rows, columns, [&](int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; ++i)
      losses[i] = token_loss(cells + i * columns, wanted[i], columns, gradient);
  });
}

class OutputLosses : public torch::autograd::Function<OutputLosses> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& states, const FrozenMatrix& operand,
                               int64_t vocabulary, const torch::Tensor& labels, const ProductTypes& types,
                               bool differentiate) {
    const c10::impl::ExcludeDispatchKeyGuard guard(c10::autocast_dispatch_keyset);  // casts are chosen here
    torch::Tensor gradient = differentiate ? torch::empty(states.sizes(), states.options()) : torch::Tensor();
    // Whole blocks of the products' kernels.
    const int64_t step = std::max<int64_t>(32, kCells / vocabulary / 32 * 32);
    torch::Tensor losses = torch::empty({states.size(0)}, torch::kFloat32);
    for (int64_t start = 0; start < states.size(0); start += step) {
      const int64_t count = std::min(step, states.size(0) - start);
      const torch::Tensor input = types.narrowed(states.narrow(0, start, count));
      torch::Tensor scores = operand.product(types, input);
      losses_of(scores, labels.narrow(0, start, count), differentiate, losses.mutable_data_ptr<float>() + start);
      if (!differentiate) continue;
      const torch::Tensor down = types.narrowed(scores);
      gradient.narrow(0, start, count).copy_(operand.product_back(types, down));
    }
    ctx->save_for_backward({gradient});
    return losses;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& outer) {
    return {ctx->get_saved_variables()[0] * outer[0].unsqueeze(1), {}, {}, {}, {}, {}};
  }
};

}  // namespace

bool can_fuse_output_loss(const torch::Tensor& weight) {
  if (!weight.device().is_cpu() || weight.requires_grad()) return false;
  if (at::autocast::is_autocast_enabled(torch::kCPU)) return ProductTypes::of(weight).result == torch::kFloat32;
  return weight.scalar_type() == torch::kFloat32 || is_half(weight);
}

torch::Tensor output_losses(const torch::Tensor& states, const FrozenMatrix& operand, int64_t vocabulary,
                            const torch::Tensor& labels) {
  check_token_labels(labels, vocabulary);
  const torch::Tensor places = labels.ne(kIgnored).nonzero().squeeze(1), wanted = labels.index_select(0, places);
  const bool differentiate = torch::GradMode::is_enabled() && states.requires_grad();
  return OutputLosses::apply(states.index_select(0, places), operand, vocabulary, wanted, ProductTypes::of(states),
                             differentiate);
}

}  // namespace deeplora
